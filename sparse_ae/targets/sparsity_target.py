"""A controller that steers a coefficient until the codes are as sparse as asked for."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from sparse_ae.functional import active, update_mean_
from sparse_ae.sparsity import Forward, Sparsity
from sparse_ae.targets.base import Target, Verdict, steered_coefficient

Measure = Literal["l0", "population_sparsity", "lifetime_sparsity"]

_SMOOTHING = 0.1
"""Weight of the newest batch in the running mean of the measured sparsity."""
_NEAR = 0.1
"""The log error in training from which on validations count: farther away the controller is still under way."""
_LONGEST, _FASTEST = 10_000, 0.05
"""Bounds of T, in steps, and of gain / T."""
_LARGEST_ERROR = 0.5
"""A larger log error counts as this: the coefficient must not run far ahead of codes that answer slowly."""
_CORRECTION = 0.7
"""Share of a validation's log error that is made up for until the next."""
_RANGE = math.log(1e8)
"""How far, as a logarithm, the coefficient may come from where its term weighs as much as the reconstruction error."""


class SparsityTarget(Target):
    """Proportional-integral control of a log-coefficient: with s_t the measure on the training batch, smoothed,

        u_t = log(s_t / value) + offset, at most 0.5 either way
        I_t = I_{t-1} + gain / T * u_t
        coefficient = exp(I_t + damping * u_t)

    T being the steps of the training (at most 10,000, and enough for gain / T to be at most 0.05), so that too dense a
    code raises the coefficient and too sparse a one lowers it, by factors. It starts where the
    method's term is the share ``start`` of the reconstruction error on the first batch: from below, for units that too
    large a coefficient kills do not come back, but not from far below, for what dense codes learn is of little use to
    sparse ones (experiments/methods). The config's coefficient has no say. It is the validation split that
    meets the target: once training is near it, each validation adds 0.7 log(measure / value) to ``offset``, which
    makes up for the gap between the splits and for a coefficient that has to rise for ever, as plain L1's does where
    decoders grow.

    What no controller evens out is the noise of the optimizer itself: at a constant learning rate of 1e-3 the share of
    units that are active under KL moves by 10 % within an epoch. A rate that falls to 0 (``scheduler=cosine``) ends it.

    ``measure`` is ``l0``, ``population_sparsity`` (share of units active in a sample) or ``lifetime_sparsity`` (share
    of samples that activate a unit): the means of the latter two, over samples and over units, are the same number.
    Methods that keep a number of units take the target as that number.
    """

    value: Tensor
    rate: Tensor
    integral: Tensor
    low: Tensor
    high: Tensor
    level: Tensor
    offset: Tensor
    batches: Tensor

    def __init__(
        self,
        *,
        measure: Measure,
        value: PositiveFloat,
        gain: PositiveFloat,
        damping: Annotated[float, Field(ge=0)],
        start: PositiveFloat,
        tolerance: PositiveFloat,
    ) -> None:
        super().__init__()
        if measure != "l0" and value >= 1:
            raise ValueError(f"value={value:g}: {measure} is a share (allowed: above 0 and below 1)")
        self.measure, self.wanted = measure, value
        self.gain, self.damping, self.start, self.tolerance = gain, damping, start, tolerance
        self.threshold = 0.0
        self.codes_by_threshold = False
        self.register_buffer("value", torch.tensor(value))
        for name in ("rate", "integral", "low", "high", "level", "offset"):
            self.register_buffer(name, torch.tensor(0.0))
        self.register_buffer("batches", torch.tensor(0))

    def arguments_for(self, method: type[Sparsity], latent_dim: int) -> dict[str, Any]:
        value = float(self.value)
        if self.measure == "l0" and value > latent_dim:
            raise ValueError(f"is more active units than model.latent_dim={latent_dim} (allowed: up to it)")
        return method.arguments_for(value if self.measure == "l0" else max(1, round(value * latent_dim)), latent_dim)

    def begin_(self, sparsity: Sparsity, threshold: float) -> None:
        self.threshold = threshold
        self.codes_by_threshold = sparsity.couples_samples
        if sparsity.steered is None:
            if type(sparsity).steered is not None:
                raise ValueError("sparsity.l0_target: is a target already (allowed: null, or target=none)")
            if sparsity.any_density is not None:
                raise ValueError(
                    f"sparsity.{sparsity.any_density}: lets a sample have any number of active units, whatever the "
                    "target (allowed: target=none, or another option)"
                )
            return
        if self.measure == "l0" and sparsity.code_range is not None:
            raise ValueError(
                f"target: {type(sparsity).__name__}'s codes are never exactly 0, so their L0 is always "
                "model.latent_dim (allowed: target=population)"
            )
        steered_coefficient(sparsity).zero_()

    @torch.no_grad()
    def schedule_(self, sparsity: Sparsity, step: int, total_steps: float) -> None:
        self.rate.fill_(min(self.gain / min(max(total_steps, 1), _LONGEST), _FASTEST))

    @torch.no_grad()
    def observe_(self, sparsity: Sparsity, forward: Forward, recon: Tensor, terms: Mapping[str, Tensor]) -> None:
        if sparsity.steered is None:
            return
        # Where the term weighs as much as the error. It is 0 where all codes are: then any coefficient does.
        term = terms[sparsity.steered]
        balance = torch.where((term > 0) & (recon > 0), recon / term, 1.0).log()
        first = self.batches == 0
        self.low.copy_(torch.where(first, balance - _RANGE, self.low))
        self.high.copy_(torch.where(first, balance + _RANGE, self.high))
        self.integral.copy_(torch.where(first, balance + math.log(self.start), self.integral))
        z = forward.z
        on = z != 0 if self.measure == "l0" else active(z, self.threshold)
        # An all-zero batch counts as one with a single active code: the error stays finite.
        share = on.to(self.level.dtype).mean(dim=(-2, -1)).clamp_min(1 / (z.shape[-2] * z.shape[-1]))
        measured = share * z.shape[-1] if self.measure == "l0" else share
        update_mean_(self.level, measured.log(), self.batches, _SMOOTHING)
        error = self._error.clamp(-_LARGEST_ERROR, _LARGEST_ERROR)
        self.integral.copy_((self.integral + self.rate * error).clamp(self.low, self.high))
        coefficient = sparsity.coefficients[sparsity.steered]
        coefficient.copy_((self.integral + self.damping * error).clamp(self.low, self.high).exp())

    @torch.no_grad()
    def validated_(self, sparsity: Sparsity, metrics: Mapping[str, float]) -> None:
        reached = metrics[f"val/{self.measure}"]
        if reached > 0 and self.batches > 0 and self._error.abs() < _NEAR:
            self.offset.add_(_CORRECTION * math.log(reached / self.wanted))

    @property
    def _error(self) -> Tensor:
        """log(s / value) + offset."""
        return self.level + self.offset - self.value.log()

    @property
    def stuck(self) -> str | None:
        if self.low == self.high:  # no coefficient is steered
            return None
        for bound, name in ((self.low, "lowest"), (self.high, "highest")):
            if self.integral == bound:
                return (
                    f"target {self.measure}={float(self.value):g} is out of reach: the coefficient is at its "
                    f"{name}, {float(bound.exp()):.2g}. Ask for another value, another sparsity= or more units"
                )
        return None

    def verdict(self, metrics: Mapping[str, float]) -> Verdict | None:
        wanted, reached = self.wanted, metrics[f"val/{self.measure}"]
        met = abs(reached / wanted - 1) <= self.tolerance
        missed = f"target {self.measure}={wanted:g} is not met: val/{self.measure} is {reached:.4g} at the end"
        if self.batches == 0 and self.codes_by_threshold and (self.measure == "l0" or reached > wanted):
            missed += ": its threshold is still on its way, or units are dead. Train longer, or try another dead="
        elif self.batches == 0 and reached < wanted:
            missed += ". The method keeps as many codes, but not every code that is kept is active"
        elif self.batches == 0:
            missed += ". The method keeps whole units: that is the nearest number of them"
        elif self._error.abs() >= _NEAR:
            missed += ", and the coefficient still on its way. Train longer, or try a larger target.gain"
        else:
            missed += ". If it fluctuates and the learning rate does not fall to 0 yet, scheduler=cosine helps"
        return Verdict(self.measure, wanted, reached, met, "" if met else self.stuck or missed)
