"""Health warnings in training, each issued once, with its reason and a remedy."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from sparse_ae.functional import block_rows
from sparse_ae.loggers import RunLogger
from sparse_ae.training.module import SparseAutoencoderModule, ours
from sparse_ae.training.progress import tell

log = logging.getLogger(__name__)

_SAMPLES = 512
"""Largest number of training samples that the check after each epoch codes."""
_MOST = 0.5
"""Share of dead units that is worth a warning."""
_NEGLIGIBLE = 1e-3
"""Ratio of penalty to reconstruction gradient below which the penalty has no effect."""
_NOTHING_LEARNED = 0.99
"""FVU above which a model predicts little more than the mean."""
_CONSTANT = 0.05
"""Ratio of standard deviation to size below which codes do not distinguish samples."""
_FLAT = 1e-3
"""Mean of (z - low)(high - z)/(high - low)^2, the slope of a sigmoid, below which no gradient passes."""
_RUNAWAY = 10.0
"""Factor by which the decoder's weights may grow."""


class Health(Callback):
    """Checks training at the start and after every epoch, and warns on the console, in the log and in loggers.

    It changes no state of training.
    """

    def __init__(self) -> None:
        self._told: list[str] = []
        self._norm_at_start = 0.0
        self._steps = 0
        self._clipped: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        """Warnings issued so far, and the values that later states are compared with."""
        clipped = 0 if self._clipped is None else int(self._clipped)
        return {"told": list(self._told), "norm": self._norm_at_start, "steps": self._steps, "clipped": clipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state that ``state_dict`` saved."""
        self._told, self._norm_at_start = state_dict["told"], state_dict["norm"]
        self._steps, self._clipped = state_dict["steps"], torch.tensor(state_dict["clipped"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._norm_at_start:
            self._norm_at_start = _decoder_norm(ours(pl_module))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step > 0:
            return
        module = ours(pl_module)
        units, dead = module.model.network.latent_dim, module.results.get("train/dead_at_init", 0)
        if dead > _MOST * units:
            self._warn(
                trainer,
                "dead_at_init",
                f"{dead:.0f} of {units} units fire for no training sample before training begins. Such units may stay "
                f"dead: {_more_alive(module)}",
            )

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Count steps whose gradient is about to be clipped."""
        limit = trainer.gradient_clip_val
        if not limit:
            return
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if trainer.gradient_clip_algorithm == "value":
            size = torch.stack([g.abs().max() for g in gradients]).max()
        else:
            size = torch.nn.utils.get_total_norm(gradients)
        clipped = (size > limit).long()
        self._clipped = clipped if self._clipped is None else self._clipped.to(clipped.device) + clipped
        self._steps += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check, before the checkpoint is written."""
        module = ours(pl_module)
        for name, message in (*self._clipping(trainer), *_codes(module), *self._norms(module), *_target(module)):
            self._warn(trainer, name, message)

    def _clipping(self, trainer: Trainer) -> Iterator[tuple[str, str]]:
        steps, clipped = self._steps, self._clipped
        self._steps, self._clipped = 0, None
        if steps and clipped is not None and int(clipped) == steps:
            yield (
                "clipping",
                f"every gradient of the epoch was clipped to {trainer.gradient_clip_val}: only its direction counts. "
                "Raise trainer.gradient_clip_val, or lower optimizer.lr instead",
            )

    def _norms(self, module: SparseAutoencoderModule) -> Iterator[tuple[str, str]]:
        growth = _decoder_norm(module) / max(self._norm_at_start, 1e-12)
        if growth > _RUNAWAY:
            yield (
                "decoder_norms",
                f"the decoder's weights have grown {growth:.0f}-fold: a penalty on the size of codes is escaped by "
                "small codes and large weights. Use sparsity.atom_norm=true or model.unit_norm=true (model=linear), "
                "sparsity=hoyer, or optimizer=adamw",
            )

    def _warn(self, trainer: Trainer, name: str, message: str) -> None:
        if name in self._told or not trainer.is_global_zero:
            return
        self._told.append(name)
        log.warning(message)
        tell(trainer, f"warning: {message}")
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.add_text(f"health/{name}", message, trainer.global_step)


def _decoder_norm(module: SparseAutoencoderModule) -> float:
    return float(module.model.network.decoder_norms().detach().mean())


def _codes(module: SparseAutoencoderModule) -> Iterator[tuple[str, str]]:
    """Diagnose the codes and gradients of a batch."""
    samples = block_rows(module.model.latent_dim, _SAMPLES)
    x = module.data.first("train", samples).to(next(module.parameters()))
    with torch.enable_grad():
        loss = module.objective(x, x)
        recon = _gradient_norm(module, loss.recon)
        penalties = {name: _gradient_norm(module, loss.terms[name]) for name in module.model.sparsity.coefficients}
    z = loss.forward.z.detach()
    yield from _penalties(module, penalties, recon)
    if penalties:
        yield from _constant_codes(module, z)
    yield from _saturation(module, z)
    yield from _dead(module)


def _penalties(module: SparseAutoencoderModule, sizes: Mapping[str, float], recon: float) -> Iterator[tuple[str, str]]:
    """Diagnose penalties by the ``sizes`` of their unweighted gradients and that of the reconstruction's."""
    sparsity = module.model.sparsity
    for name, size in sizes.items():
        weighted = float(sparsity.coefficients[name]) * size
        if size == 0:
            yield (
                f"no_gradient_{name}",
                f"the term {name} has no gradient: nothing that is trained can change it. The codes may all be 0, or "
                "stuck: lower sparsity.coefficient, or use another sparsity=",
            )
        elif name == sparsity.traits.steered and _is_settled(module) and weighted < _NEGLIGIBLE * recon:
            yield (
                "negligible",
                f"sparsity.coefficient={float(sparsity.full_coefficients[name]):g} changes nothing: the gradient of "
                f"{name} is {weighted / recon:.1g} of the reconstruction's. Raise it, or ask for a sparsity with "
                "target=l0",
            )


def _constant_codes(module: SparseAutoencoderModule, z: Tensor) -> Iterator[tuple[str, str]]:
    fvu, variation = module.results.get("val/fvu", 0.0), float(z.std(dim=0).mean() / z.abs().mean().clamp_min(1e-12))
    if module.objective.target is None and fvu > _NOTHING_LEARNED and variation < _CONSTANT:
        yield (
            "penalty_won",
            f"the codes are the same for every sample (val/fvu {fvu:.3f}): the penalty dominates. Lower "
            "sparsity.coefficient, or ramp it with sparsity.warmup_steps or target=l0",
        )


def _saturation(module: SparseAutoencoderModule, z: Tensor) -> Iterator[tuple[str, str]]:
    if module.model.sparsity.traits.code_range is None:
        return
    low, high = module.model.sparsity.traits.code_range
    slope = float(((z - low) * (high - z)).mean()) / (high - low) ** 2
    if slope < _FLAT:
        yield (
            "saturated",
            f"the codes are saturated at {low:g} or {high:g}, where no gradient passes (mean slope {slope:.1g}). "
            "Lower sparsity.coefficient or optimizer.lr, or raise sparsity.rho",
        )


def _dead(module: SparseAutoencoderModule) -> Iterator[tuple[str, str]]:
    counter, units = module.objective.dead, module.model.network.latent_dim
    dead = int(counter.dead.sum())
    if dead > _MOST * units:
        yield (
            "dead",
            f"{dead} of {units} units have not fired for {counter.window_epochs:g} epochs: {_more_alive(module)}",
        )


def _is_settled(module: SparseAutoencoderModule) -> bool:
    """True if the steered coefficient has reached the one that the user gave, and that is not 0."""
    sparsity = module.model.sparsity
    steered = sparsity.traits.steered
    assert steered is not None
    full = float(sparsity.full_coefficients[steered])
    return module.objective.target is None and 0 < full <= float(sparsity.coefficients[steered]) * 1.001


def _more_alive(module: SparseAutoencoderModule) -> str:
    """Remedies against dead units that are open to this run."""
    sparsity, network, dead = module.model.sparsity, module.model.network, module.objective.dead
    denser = "a denser target" if module.objective.target else "a smaller sparsity.coefficient"
    remedies = [
        "fewer units (model.latent_dim)",
        denser if sparsity.traits.steered or module.objective.target else "a larger sparsity.k or share",
        *(["dead=auxk"] if network.has_atoms and not dead.coefficients else []),
        *([] if network.has_atoms else ["a network whose dead units can be brought back (model=linear dead=auxk)"]),
    ]
    return f"try {', '.join(remedies[:-1])} or {remedies[-1]}"


def _target(module: SparseAutoencoderModule) -> Iterator[tuple[str, str]]:
    target = module.objective.target
    if target is not None and target.stuck is not None:
        yield "target", target.stuck


def _gradient_norm(module: SparseAutoencoderModule, value: Tensor) -> float:
    if not value.requires_grad:
        return 0.0
    gradients = torch.autograd.grad(value, list(module.parameters()), retain_graph=True, allow_unused=True)
    return float(torch.nn.utils.get_total_norm([g for g in gradients if g is not None]).detach())
