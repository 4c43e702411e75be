"""Errors about run directories and the files in them."""

from sparse_ae.config.errors import UserError


class RunError(UserError):
    """A run directory that is missing, foreign, incomplete, damaged or cannot be written."""


class RunBusyError(RunError):
    """Another process is training the run."""


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged or foreign."""
