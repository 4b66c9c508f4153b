"""Definitions of what single probes say; each file has the name of its probe or measure."""
