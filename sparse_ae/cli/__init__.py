"""Command lines: composition of the config, parsing of overrides, and the commands that make runs."""
