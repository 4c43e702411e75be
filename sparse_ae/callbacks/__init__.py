"""Lightning callbacks of a run, beside its own."""
