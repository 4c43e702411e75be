"""A session's process around training: afterwards it is as it was before."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch.utilities.seed import isolate_rng

from sparse_ae.training.stop import Stopped


@contextmanager
def left_as_it_was() -> Iterator[None]:
    """Restore torch's settings, warnings and random generators after the block; Ctrl-C becomes ``KeyboardInterrupt``.

    Denormal numbers count again afterwards, as they do unless somebody asked torch to flush them.
    """
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        with isolate_rng(), warnings.catch_warnings():
            yield
    except Stopped as stopped:
        raise KeyboardInterrupt(f"stopped by {stopped.reason}; the same call resumes it") from None
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(deterministic)
        torch.set_flush_denormal(False)
