"""One module a command: its flags and its run."""
