"""The commands of `lcmae`, a file each: `run(arguments)` returns the exit code. None imports torch
before its words are checked."""
