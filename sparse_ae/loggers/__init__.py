"""Lightning's loggers of one run, which a resumed run continues."""

from sparse_ae.loggers.base import Loggers, RunLogger

__all__ = ["Loggers", "RunLogger"]
