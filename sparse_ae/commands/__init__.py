"""The five commands, a module each."""
