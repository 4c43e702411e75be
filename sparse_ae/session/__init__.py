"""The commands as Python calls, and a run as an object that shows itself in a notebook."""
