"""Jobs: everything that executes one run, from its config to its results."""
