"""Was a foreign checkpoint loaded as its authors meant it? Settings that its file does not say are
tried on the user's own images."""
