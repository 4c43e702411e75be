"""Controller that steers a coefficient until codes are as sparse as asked for."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from sparse_ae.config.errors import ConfigError
from sparse_ae.functional import active, update_mean_
from sparse_ae.sparsity import Loss, Sparsity
from sparse_ae.targets.base import Target, Verdict

Measure = Literal["l0", "population_sparsity", "lifetime_sparsity"]

_SMOOTHING = 0.1
"""Weight of the newest batch in the running mean of the measured sparsity."""
_NEAR = 0.1
"""Log error in training below which validations count: farther away the controller has not settled."""
_LONGEST, _FASTEST = 10_000, 0.05
"""Upper bounds of T, in steps, and of gain / T."""
_LARGEST_ERROR = 0.5
"""Bound of the log error: the coefficient must not run far ahead of codes that respond slowly."""
_CORRECTION = 0.7
"""Fraction of the log error at each validation that is added to ``offset``."""
_RANGE = math.log(1e8)
"""Log distance that the coefficient may move from where its term weighs as much as the reconstruction error."""


class SparsityTarget(Target):
    """Proportional-integral control of a log-coefficient: with s_t the measure on the training batch, smoothed,

        u_t = log(s_t / value) + offset, at most 0.5 either way
        I_t = I_{t-1} + gain / T * u_t
        coefficient = exp(I_t + damping * u_t)

    T is the number of training steps, at most 10,000, and enough for gain / T to be at most 0.05. Too dense a code
    raises the coefficient and too sparse a one lowers it, by factors.

    The coefficient starts where the method's term is the share ``start`` of the reconstruction error on the first
    batch; the config's coefficient is ignored. It starts from below, since units that too large a coefficient kills do
    not come back. It does not start from far below, since dense codes learn little of use to sparse ones
    (experiments/methods).

    The validation split has to meet the target: once training is near it, each validation adds 0.7 log(measure / value)
    to ``offset``. That makes up for the gap between the splits, and for a coefficient that has to rise for ever, as
    plain L1's does where decoders grow.

    No controller evens out the noise of the optimizer itself: at a constant learning rate of 1e-3 the share of units
    that are active under KL moves by 10 % within an epoch. A rate that falls to 0 (``scheduler=cosine``) ends it.

    ``measure`` is ``l0``, ``population_sparsity`` (share of units active in a sample) or ``lifetime_sparsity`` (share
    of samples that activate a unit). The means of the latter two, over samples and over units, are the same number.
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
        measure: Measure = "l0",
        value: PositiveFloat = 32.0,
        tolerance: PositiveFloat = 0.02,
        gain: PositiveFloat = 100.0,
        damping: Annotated[float, Field(ge=0)] = 2.0,
        start: PositiveFloat = 1e-4,
    ) -> None:
        super().__init__()
        if measure != "l0" and value >= 1:
            raise ConfigError("value", f"{value:g}", f"{measure} is a share", "above 0 and below 1")
        self.measure = measure
        self.gain, self.damping, self.start, self.tolerance = gain, damping, start, tolerance
        asked = torch.tensor(float(value), dtype=torch.float64)
        self.register_buffer("value", asked, persistent=False)  # by this run, whatever it starts from
        for name in ("rate", "integral", "low", "high", "level", "offset"):
            self.register_buffer(name, torch.tensor(0.0))
        self.register_buffer("batches", torch.tensor(0))

    def arguments_for(self, method: type[Sparsity], latent_dim: int) -> dict[str, Any]:
        value = float(self.value)
        if self.measure == "l0" and value > latent_dim:
            reason = f"more active units than model.latent_dim={latent_dim}"
            raise ConfigError("target.value", f"{value:g}", reason, f"up to {latent_dim}")
        l0 = value if self.measure == "l0" else max(1, round(value * latent_dim))
        try:
            return method.arguments_for(l0, latent_dim)
        except ConfigError as error:
            raise ConfigError("target.value", f"{value:g}", error.reason, error.expected) from error

    def attach_(self, sparsity: Sparsity, threshold: float) -> None:
        super().attach_(sparsity, threshold)
        sparsity.check_target()
        if sparsity.traits.steered is None:
            return
        if self.measure == "l0" and sparsity.traits.code_range is not None:
            method = type(sparsity).__name__
            reason = f"{method}'s codes are never exactly 0, so their L0 is always model.latent_dim"
            raise ConfigError("target", reason=reason, expected="target=population")
        self.coefficient.zero_()

    @torch.no_grad()
    def on_step_start_(self, step: int, total_steps: float) -> None:
        self.rate.fill_(min(self.gain / min(max(total_steps, 1), _LONGEST), _FASTEST))

    @torch.no_grad()
    def on_backward_end_(self, loss: Loss) -> None:
        steered = self.sparsity.traits.steered
        if steered is None:
            return
        # Where the term weighs as much as the error. It is 0 where all codes are: then any coefficient does.
        term, recon = loss.terms[steered], loss.recon
        balance = torch.where((term > 0) & (recon > 0), recon / term, 1.0).log()
        first = self.batches == 0
        self.low.copy_(torch.where(first, balance - _RANGE, self.low))
        self.high.copy_(torch.where(first, balance + _RANGE, self.high))
        self.integral.copy_(torch.where(first, balance + math.log(self.start), self.integral))
        z = loss.forward.z
        on = z != 0 if self.measure == "l0" else active(z, self.threshold)
        # An all-zero batch counts as one with a single active code: the error stays finite.
        share = on.to(self.level.dtype).mean(dim=(-2, -1)).clamp_min(1 / (z.shape[-2] * z.shape[-1]))
        measured = share * z.shape[-1] if self.measure == "l0" else share
        update_mean_(self.level, measured.log(), self.batches, _SMOOTHING)
        error = self._error.clamp(-_LARGEST_ERROR, _LARGEST_ERROR)
        self.integral.copy_((self.integral + self.rate * error).clamp(self.low, self.high))
        self.coefficient.copy_((self.integral + self.damping * error).clamp(self.low, self.high).exp())

    @torch.no_grad()
    def on_validation_end_(self, metrics: Mapping[str, float]) -> None:
        reached = metrics[f"val/{self.measure}"]
        if reached > 0 and self.batches > 0 and self._error.abs() < _NEAR:
            self.offset.add_(_CORRECTION * math.log(reached / float(self.value)))

    @property
    def _error(self) -> Tensor:
        """log(s / value) + offset, a scalar."""
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
        wanted, reached = float(self.value), metrics[f"val/{self.measure}"]
        met = abs(reached / wanted - 1) <= self.tolerance
        learns = self.sparsity.traits.learns_threshold
        missed = f"target {self.measure}={wanted:g} is not met: val/{self.measure} is {reached:.4g} at the end"
        if self.batches == 0 and learns and (self.measure == "l0" or reached > wanted):
            missed += ": the threshold has not settled, or units are dead. Train longer, or try another dead="
        elif self.batches == 0 and reached < wanted:
            missed += ". The method keeps the right number of codes, but not every code that it keeps is active"
        elif self.batches == 0:
            missed += ". The method keeps whole units, and this is the nearest number of them"
        elif self._error.abs() >= _NEAR:
            missed += ", and the coefficient has not settled. Train longer, or try a larger target.gain"
        else:
            missed += ". If it fluctuates, a learning rate that falls to 0 helps (scheduler=cosine)"
        return Verdict(self.measure, wanted, reached, met, "" if met else self.stuck or missed)
