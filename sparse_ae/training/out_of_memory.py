"""Lack of memory, which libraries report in different ways."""

import torch

_REPORTS = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Parts of messages of exceptions that have no type of their own."""


def is_out_of_memory(error: BaseException) -> bool:
    """True if ``error`` reports a lack of memory: of a GPU, of its libraries, or of the machine.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"))
    (True, True)
    >>> is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    False
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(report in str(error) for report in _REPORTS)
