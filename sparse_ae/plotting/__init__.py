"""Figures from arrays with matplotlib, in one style; figures of a single analysis stand in its own file."""
