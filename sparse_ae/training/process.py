"""Settings of a training process: quiet libraries, and faster steps. Each gain is measured in experiments/speed."""

import ctypes
import functools
import logging
import os
import sys
import warnings
from pathlib import Path

import torch

_UNHELPFUL = (
    r".*is smaller than the logging interval",  # the end of an epoch logs too
    r"You're resuming from a checkpoint that ended before the epoch ended",  # the sampler knows where to resume
    r"The `srun` command is available",  # one process does not need it
    r"Total length of `list` across ranks is zero",  # data.val_size=0
)

LEVELS = {
    "lightning.pytorch": logging.WARNING,
    "lightning.fabric": logging.WARNING,
    "torch.utils.cpp_extension": logging.ERROR,  # looks for a compiler, which nobody needs
    "lightning.pytorch.profilers": logging.INFO,  # asked for, so shown
}
"""Levels of libraries' loggers."""
NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
"""Environment variable of Lightning's, by which torch looks for a GPU."""

_CPUS = Path("/proc/cpuinfo")
"""File in which Linux describes the processors."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of ``mallopt``, from malloc.h."""
_THRESHOLDS = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"}
"""Environment variables by which a user sets thresholds of glibc."""


def tune_process(threads: int | None, matmul_precision: str) -> None:
    """Apply the settings; call it before the first tensor operation, whose threads inherit them.

    ``threads`` is the number of CPU threads, None for all cores. ``matmul_precision`` is torch's: ``highest`` is
    float32 throughout; ``medium`` multiplies in bfloat16 and adds in float32, where the hardware can; ``high`` is in
    between.
    """
    torch.set_float32_matmul_precision(matmul_precision)
    if threads is not None:
        torch.set_num_threads(threads)

    # Only messages that a user can act on: no device banner, no tips, no deprecations that Lightning owes to torch.
    for name, level in LEVELS.items():
        logging.getLogger(name).setLevel(level)
    warnings.filterwarnings("ignore", module=r"lightning\.pytorch\.utilities\._pytree")
    for message in _UNHELPFUL:
        warnings.filterwarnings("ignore", message=message)

    # Adam's moments of inputs that are nearly always 0, such as an image's border, decay into denormal numbers, with
    # which CPUs are ten times slower.
    torch.set_flush_denormal(True)

    # Adam asks each step whether there is a GPU. Lightning makes torch answer through the driver's library; without a
    # GPU that library is searched for on disk every time.
    if not torch.cuda.is_available():
        os.environ.pop(NVML_CHECK, None)


def prefer_onednn() -> None:
    """Let oneDNN multiply float32 where it is twice as fast as MKL: on AMD's processors with AVX-512, without a GPU.

    MKL, torch's choice, uses AVX-512 on Intel's processors only. torch takes oneDNN where its precision is ``medium``,
    which permits bfloat16; but oneDNN has a kernel for that on processors with AMX only. Whether that is so, a product
    shows. On a GPU, ``medium`` would be TF32. Each new shape costs oneDNN a third of a millisecond, which training
    pays once. Call it after ``tune_process``.
    """
    if not torch.cuda.is_available() and _is_amd_with_avx512() and _medium_is_float32():
        torch.set_float32_matmul_precision("medium")


def _is_amd_with_avx512() -> bool:
    is_amd = _CPUS.exists() and "AuthenticAMD" in _CPUS.read_text()
    return is_amd and torch.backends.cpu.get_cpu_capability() == "AVX512"


@functools.cache
def _medium_is_float32() -> bool:
    """True if products keep what bfloat16 cannot, in the shape of a layer's and in that of packed layers'."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    almost_one = torch.full((2, 128, 256), 1 + 2**-12)  # which bfloat16 rounds to one
    products = almost_one[0] @ torch.eye(256), almost_one @ torch.eye(256).expand(2, 256, 256)
    torch.set_float32_matmul_precision(before)
    return all(bool((product == 1 + 2**-12).all()) for product in products)


def keep_freed_memory() -> None:
    """Let glibc keep the memory that a step frees, for the next one. For a process that ends with its runs.

    Else it returns some of it to the kernel, which clears each page again that the next step touches. Blocks under
    32 MiB stay in the heap, and its free end is returned from 128 MiB on. Thresholds that the environment sets are
    left alone.
    """
    if sys.platform != "linux" or not _THRESHOLDS.isdisjoint(os.environ):
        return
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:  # other C libraries have none
        mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)  # the largest that it takes
        mallopt(_M_TRIM_THRESHOLD, 128 * 2**20)
