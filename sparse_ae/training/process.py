"""What a training process sets once: quiet libraries, and no time lost per step. Each gain is in experiments/speed."""

import logging
import os
import warnings
from contextlib import nullcontext
from typing import Any

import torch
from lightning.pytorch.profilers import PassThroughProfiler

_UNHELPFUL = (
    r".*is smaller than the logging interval",  # the end of an epoch logs too
    r"You're resuming from a checkpoint that ended before the epoch ended",  # the sampler knows where to go on
    r"The `srun` command is available",  # the default launcher's jobs are no Slurm jobs, and submitit's are run by it
    r"Total length of `list` across ranks is zero",  # data.val_size=0
)


def tune_process(threads: int | None, matmul_precision: str) -> None:
    """Call before the first tensor operation, whose threads inherit it; ``threads`` is how many of them, None for all
    cores. ``matmul_precision`` is what torch calls it: ``highest`` is float32 throughout; ``medium`` multiplies in
    bfloat16 and adds in float32, where the hardware can; ``high`` is in between.
    """
    torch.set_float32_matmul_precision(matmul_precision)
    if threads is not None:
        torch.set_num_threads(threads)

    # Keep what a user can act on: no device banner, no tips, no deprecations that Lightning owes to torch.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # looks for a compiler, which nobody needs
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # asked for, so shown
    warnings.filterwarnings("ignore", module=r"lightning\.pytorch\.utilities\._pytree")
    for message in _UNHELPFUL:
        warnings.filterwarnings("ignore", message=message)

    # Adam's moments of inputs that are nearly always 0, an image's border, decay into denormal numbers, which CPUs
    # compute with ten times slower.
    torch.set_flush_denormal(True)

    # Adam asks each step whether there is a GPU. Lightning makes torch answer through the driver's library, which
    # without a GPU is searched for on disk anew each time.
    if not torch.cuda.is_available():
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)


class NoProfiler(PassThroughProfiler):
    """Lightning opens a profiling context some 40 times a step: make it one that is there already."""

    _NOTHING = nullcontext()

    def profile(self, action_name: str) -> Any:
        """The same empty context for every action."""
        return self._NOTHING
