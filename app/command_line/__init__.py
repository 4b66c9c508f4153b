"""What the commands share: options made of settings classes, and tables in a terminal.

- `arguments.py`: a settings class -> a command line, by tyro; bad words end in one line
- `plain_options.py`: how options are named and their defaults shown in `--help`
- `checkpoint_options.py`, `image_options.py`: what a file does not say of itself, as options
- `union_options.py`: `--objective.mask.kind block`, options of one member of a union
- `examples.py`: two examples for the help of each command
- `tables.py`: tables in the terminal
"""
