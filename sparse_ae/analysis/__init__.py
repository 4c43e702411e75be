"""Analyses, one file each: a coder and a sample in, numbers with labels and figures out. Nothing here trains."""

from sparse_ae.analysis.base import Embedding, Label, Result, Sample, Subject

__all__ = ["Embedding", "Label", "Result", "Sample", "Subject"]
