"""Lack of memory, which libraries report in different ways."""

import errno

import torch

_REPORTS = ("out of memory", "can't allocate memory", "cannot allocate memory", "_alloc_failed", "allocation_failed")
"""Parts of messages, in small letters, of exceptions that have no type of their own."""


def is_out_of_memory(error: BaseException) -> bool:
    """True if ``error`` reports a lack of memory: of a GPU, of its libraries, or of the machine.

    CUDA's libraries, compiled code and PyTorch's allocator for the CPU raise a bare ``RuntimeError``, so that its
    message is all that tells.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"))
    (True, True)
    >>> is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    False
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(report in str(error).lower() for report in _REPORTS)
