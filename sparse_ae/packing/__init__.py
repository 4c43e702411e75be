"""Packed training: several runs of one program as one stacked program."""
