"""Run directories: their files, names, checkpoints and exported models."""
