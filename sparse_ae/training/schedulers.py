"""Learning rates: schedules, and parameters with rates of their own."""

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt
from torch import nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from sparse_ae.config.errors import ConfigError
from sparse_ae.models import SparseAutoencoder

MakeOptimizer = Callable[..., Optimizer]
MakeScheduler = Callable[..., LRScheduler]
adam: MakeOptimizer = partial(Adam, lr=1e-3, fused=True)
"""Optimizer of a run that names none."""
Share = Annotated[float, Field(ge=0, le=1)]


def cosine(optimizer: Optimizer, *, total_steps: int, final_share: Share = 0.0) -> LambdaLR:
    """lr(t) = lr * (f + (1 - f) (1 + cos(pi t / T)) / 2), with f = ``final_share``, T = ``total_steps``."""

    def factor(step: int) -> float:
        progress = min(1.0, step / total_steps)
        return final_share + (1 - final_share) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)


def warmup_linear(
    optimizer: Optimizer, *, total_steps: int, warmup_steps: NonNegativeInt = 500, final_share: Share = 0.0
) -> LambdaLR:
    """lr rises linearly over ``warmup_steps``, then falls linearly to ``final_share`` of it at ``total_steps``."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return 1 - (1 - final_share) * progress

    return LambdaLR(optimizer, factor)


def make_optimizer(make: MakeOptimizer, model: SparseAutoencoder) -> Optimizer:
    """Build an optimizer of one model, with a group of parameters for each learning rate: its own, and the multiples
    of it in ``model.learning_rates``.

    Weight decay is for matrices: biases, thresholds and scales, which have one dimension, keep groups without it.
    Raises ``ConfigError`` if there are multiples and ``make`` binds no ``lr``.
    """
    rates, decays = model.learning_rates, _has_weight_decay(make)
    together: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, False): []}  # the first group, if not empty
    for name, parameter in model.named_parameters():
        together.setdefault((rates.get(name, 1.0), decays and parameter.dim() < 2), []).append(parameter)
    lr: Any = getattr(make, "keywords", {}).get("lr")
    if lr is None and any(rate != 1 for rate, _ in together):
        raise ConfigError("optimizer.lr", reason="is required, as some parts learn at multiples of it")
    groups: list[dict[str, Any]] = []
    for (rate, is_exempt), parameters in together.items():
        own_rate = {} if rate == 1 else {"lr": rate * lr}
        own_decay = {"weight_decay": 0.0} if is_exempt else {}
        groups.append({"params": parameters, **own_rate, **own_decay})
    return make([group for group in groups if group["params"]])


def _has_weight_decay(make: MakeOptimizer) -> bool:
    """True unless the ``weight_decay`` of ``make``, bound or its default, is 0 or missing."""
    parameter = inspect.signature(make).parameters.get("weight_decay")
    return parameter is not None and bool(parameter.default)


def make_scheduler(make: MakeScheduler, optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Build a scheduler; pass ``total_steps`` if its signature has them, as ours do and most of torch's do not."""
    takes_it = "total_steps" in inspect.signature(make).parameters
    return make(optimizer, total_steps=total_steps) if takes_it else make(optimizer)
