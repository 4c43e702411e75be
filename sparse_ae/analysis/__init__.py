"""One file per analysis: a coder and a sample in, numbers and figures out; nothing here trains."""

from sparse_ae.analysis.base import Embedding, Result, Sample, Subject

__all__ = ["Embedding", "Result", "Sample", "Subject"]
