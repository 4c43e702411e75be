"""A session's process around training: afterwards it is as it was before."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch.utilities.seed import isolate_rng

from sparse_ae.training.process import LEVELS, NVML_CHECK
from sparse_ae.training.stop import Stopped

_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", NVML_CHECK)
"""Environment variables that training changes; the first two seed a user's own ``seed_everything()``."""


@contextmanager
def left_as_it_was() -> Iterator[None]:
    """Restore settings of torch and Lightning, warnings and random generators; Ctrl-C becomes ``KeyboardInterrupt``.

    Denormal numbers count again afterwards, as they do unless somebody asked torch to flush them.
    """
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    deterministic = torch.are_deterministic_algorithms_enabled()
    levels = {name: logging.getLogger(name).level for name in LEVELS}
    variables = {name: os.environ.get(name) for name in _VARIABLES}
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
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for name, value in variables.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
