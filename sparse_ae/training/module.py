"""The LightningModule: one objective, one optimizer, metrics per split, logging that never waits for the device."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sparse_ae.data import Batch, ImageDataModule, to_unit_interval
from sparse_ae.metrics import NAMES, CodeMetrics
from sparse_ae.models import SparseAutoencoder
from sparse_ae.runs.naming import config_hash
from sparse_ae.training.objective import Loss, Objective

MakeOptimizer = Callable[..., Optimizer]
MakeScheduler = Callable[..., LRScheduler]


_FIT_SAMPLES = 10_000
"""So many training images initialise what is initialised from data and is no mean."""


class NonFiniteLossError(RuntimeError):
    """Training diverged: the loss or a weight is NaN or infinite."""


def make_scheduler(make: MakeScheduler, optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Ours need the number of steps; torch's own mostly do not take it."""
    takes_it = "total_steps" in inspect.signature(make).parameters
    return make(optimizer, total_steps=total_steps) if takes_it else make(optimizer)


class SparseAutoencoderModule(LightningModule):
    """Minimises an ``Objective``: reconstruction + sum_t coefficient_t * term_t.

    Every step's loss and terms stay on the device; each ``trainer.log_every_n_steps`` steps, and at the end of an
    epoch, their means are logged as ``train/loss``, ``train/recon`` and ``train/<term>``, the coefficient beside each
    term as ``train/<term>_coefficient``. That is also when they are checked: NaN or infinity raises
    ``NonFiniteLossError``, before any checkpoint of that state can be written.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: MakeOptimizer,
        scheduler: MakeScheduler | None,
        *,
        threshold: float,
        compile_objective: bool,
        config: Mapping[str, Any],
    ) -> None:
        """``optimizer(parameters)`` and ``scheduler(optimizer)`` are made when training starts;
        ``threshold`` is what a code has to exceed to be active; ``config``, plain containers, is only stored with each
        checkpoint.
        """
        super().__init__()
        self.objective = objective
        self._compute = torch.compile(objective.forward) if compile_objective else objective.forward
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.threshold = threshold
        self.save_hyperparameters({"config": config}, logger=False)
        self.latest: dict[str, float] = {}
        """The last logged training means."""
        self.results: dict[str, float] = {}
        """The metrics of each split's last evaluation."""
        self.evaluated_at: dict[str, int] = {}
        """The step of each split's last evaluation."""
        self._loss: Loss | None = None
        self._unlogged: list[Tensor] = []
        self._unlogged_steps: list[int] = []
        self._metrics: dict[str, CodeMetrics] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        """Lightning notes the hook under way here some 40 times a step: spare that note the search for parameters that
        ``nn.Module`` makes of every assignment.
        """
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @property
    def model(self) -> SparseAutoencoder:
        """What is trained."""
        return self.objective.model

    @property
    def data(self) -> ImageDataModule:
        """The trainer's data module."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, ImageDataModule)
        return data

    def metric_names(self, *, validates: bool) -> list[str]:
        """The scalars that tell how a run ended."""
        return [f"{split}/{name}" for split in ("test", *(["val"] if validates else [])) for name in NAMES]

    def setup(self, stage: str) -> None:
        """Initialise from the data what is initialised from data. A resume overwrites it from the checkpoint."""
        if stage == "fit":
            sample = to_unit_interval(self.data.split("train").x[:_FIT_SAMPLES])
            self.model.network.fit_to_(sample, self.data.train_mean, self.data.input_shape)
            self.objective.dead.begin_(self._samples_per_epoch)

    def new_optimizer(self) -> Optimizer:
        """A group of parameters for each learning rate: the optimizer's own, and multiples of it that parts ask for."""
        rates = self.model.learning_rates
        together: dict[float, list[torch.nn.Parameter]] = {1.0: []}
        for name, parameter in self.model.named_parameters():
            together.setdefault(rates.get(name, 1.0), []).append(parameter)
        groups: list[dict[str, Any]] = [{"params": together.pop(1.0)}]
        if together:
            lr = getattr(self.make_optimizer, "keywords", {}).get("lr")
            if lr is None:
                raise ValueError("lr: is needed, for parts learn at multiples of it (allowed: optimizer.lr=...)")
            groups += [{"params": own, "lr": rate * lr} for rate, own in together.items()]
        return self.make_optimizer(groups)

    def configure_optimizers(self) -> Any:
        optimizer = self.new_optimizer()
        if self.make_scheduler is None:
            return optimizer
        total_steps = self.total_steps()
        if not 0 < total_steps < math.inf:
            epochs, steps = self.trainer.max_epochs, self.trainer.max_steps
            raise ValueError(
                f"trainer.max_epochs={epochs}, max_steps={steps}: a schedule needs an end and a step before it "
                "(allowed: max_epochs or max_steps greater than 0)"
            )
        scheduler = make_scheduler(self.make_scheduler, optimizer, int(total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def total_steps(self) -> float:
        """Optimizer steps of the whole training; infinite if it has no end.

        Lightning's own estimate starts to read the training data, at a time when a resumed run does not know yet where
        in its epoch it goes on.
        """
        trainer, per_epoch = self.trainer, self._batches_per_epoch
        steps = math.inf if trainer.max_steps == -1 else float(trainer.max_steps)
        if trainer.max_epochs not in (None, -1):
            steps = min(steps, math.ceil(per_epoch / trainer.accumulate_grad_batches) * trainer.max_epochs)
        return steps

    @property
    def _batches_per_epoch(self) -> int:
        """Of each process."""
        limit, batches = self.trainer.limit_train_batches, self.data.train_batches
        return min(limit, batches) if isinstance(limit, int) else int(limit * batches)

    @property
    def _samples_per_epoch(self) -> int:
        """Of each process."""
        share = len(self.data.split("train").x) // self.trainer.world_size
        return min(self._batches_per_epoch * self.data.batch_size, share)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, target, _ = batch
        loss = self._compute(x, target)
        self._unlogged.append(torch.stack([loss.loss, loss.recon, *loss.terms.values()]).detach())
        self._unlogged_steps.append(self.global_step + 1)
        self._loss = loss
        return loss.loss

    def on_after_backward(self) -> None:
        """What follows training moves when the gradient has no more use for its old state."""
        assert self._loss is not None
        self.objective.observe_(self._loss)
        self._loss = None

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """What the optimizer does too, without its detour through the profiler, which is 1 % of a step on a CPU."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.model.network.before_step_()

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Step, and all that belongs to it: when this returns, the state is that of a moment between two steps."""
        super().optimizer_step(*arguments, **options)
        self.model.network.after_step_()
        if len(self._unlogged) >= self.trainer.log_every_n_steps or self.trainer.is_last_batch:  # type: ignore[attr-defined]
            self._log_training(step=self.global_step + 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What was measured and is not yet logged, and what was logged last."""
        checkpoint["measured"] = {
            "unlogged": torch.stack(self._unlogged).cpu() if self._unlogged else None,
            "unlogged_steps": list(self._unlogged_steps),
            "latest": dict(self.latest),
            "results": dict(self.results),
            "evaluated_at": dict(self.evaluated_at),
        }

    def wrote(self, checkpoint: Mapping[str, Any]) -> bool:
        """Whether the checkpoint is of this very run, and not of one that it begins where that ended."""
        return config_hash(checkpoint["hyper_parameters"]["config"]) == config_hash(self.hparams["config"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what ``on_save_checkpoint`` saved, unless another run measured it."""
        if not self.wrote(checkpoint):
            return
        measured = checkpoint["measured"]
        self._unlogged = [] if measured["unlogged"] is None else list(measured["unlogged"].to(self.device))
        self._unlogged_steps = measured["unlogged_steps"]
        self.latest, self.results = measured["latest"], measured["results"]
        self.evaluated_at = measured["evaluated_at"]

    def on_validation_epoch_start(self) -> None:
        self._start_metrics("val")

    def on_test_epoch_start(self) -> None:
        self._start_metrics("test")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._add_to_metrics("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._add_to_metrics("test", batch)

    def on_validation_epoch_end(self) -> None:
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        self._log_metrics("test")

    def on_validation_start(self) -> None:
        """The end of a training epoch: let no diverged state reach a metric or an image."""
        self.check_finite()

    def on_train_epoch_end(self) -> None:
        """The same where there is no validation."""
        self.check_finite()

    def check_finite(self) -> None:
        """Raise ``NonFiniteLossError`` if a loss term since the last logged step, or a weight, is NaN or infinite."""
        if self._unlogged:
            self._check_terms(torch.stack(self._unlogged).cpu())
        finite = torch.stack([p.isfinite().all() for p in self.parameters()]).all()
        if not finite:
            raise NonFiniteLossError(f"a weight is NaN or infinite at step {self.global_step}")

    def _check_terms(self, values: Tensor) -> None:
        """``values`` are those of ``_unlogged``, ``(steps, terms)``."""
        if values.isfinite().all():
            return
        row = int((~values.isfinite()).nonzero()[0, 0])
        # The loss is the sum of the others, so it is bad whenever one of them is: name the term.
        bad = [name for name, ok in zip(self._names, values[row].isfinite().tolist(), strict=True) if not ok]
        term = bad[min(1, len(bad) - 1)]
        value = values[row, self._names.index(term)]
        raise NonFiniteLossError(f"{term} became {value} at step {self._unlogged_steps[row]}")

    @property
    def _names(self) -> list[str]:
        return ["loss", "recon", *self.objective.coefficients]

    def _log_training(self, step: int) -> None:
        """Log the means over the steps since the last call; the one place that waits for the device."""
        values = torch.stack(self._unlogged).cpu()
        self._check_terms(values)
        self._unlogged, self._unlogged_steps = [], []
        means = values.mean(dim=0).tolist()
        self.latest = {f"train/{name}": mean for name, mean in zip(self._names, means, strict=True)}
        state = {f"train/{t}_coefficient": float(c) for t, c in self.objective.coefficients.items()}
        dead = self.objective.dead
        state |= {"train/dead_units": int(dead.dead.sum()), "train/revived_units": int(dead.revived)}
        self.results |= {name: state[name] for name in ("train/dead_units", "train/revived_units")}
        if self.logger is not None:
            self.logger.log_metrics(self.latest | state, step=step)

    def _start_metrics(self, split: str) -> None:
        if split not in self._metrics:
            self._metrics[split] = CodeMetrics(
                mean=self.data.train_mean, latent_dim=self.model.network.latent_dim, threshold=self.threshold
            ).to(self.device)
        self._metrics[split].reset()

    def _add_to_metrics(self, split: str, batch: Batch) -> None:
        z = self.model.encode(batch.x)
        self._metrics[split].update(batch.target, z.float(), self.model.decode(z).float())

    def _log_metrics(self, split: str) -> None:
        if self.trainer.sanity_checking:
            return
        values = {f"{split}/{name}": value for name, value in self._metrics[split].compute().items()}
        self.evaluated_at[split] = self.global_step
        self.results |= {name: float(value) for name, value in values.items()}
        # For what monitors them; Lightning itself would log them one step early and with an "epoch" beside them.
        self.log_dict({name: value.float() for name, value in values.items()}, logger=False, sync_dist=True)
        if self.logger is not None:
            self.logger.log_metrics({name: self.results[name] for name in values}, step=self.global_step)

    def lifetime(self, split: str) -> Tensor | None:
        """Lifetime sparsity of each unit ``(N,)`` over the whole ``split``, if it was evaluated at this very step."""
        return self._metrics[split].lifetime if self.evaluated_at.get(split) == self.global_step else None
