"""Config to objects: a user's mistakes, and the constructor calls that a config describes."""
