"""A package so that `tests.reference` is ours whatever else is installed, and so that `tests/`
itself stays off sys.path."""
