"""Tests of the Python session."""
