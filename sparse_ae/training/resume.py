"""State beside Lightning's own that makes a resumed run identical to an uninterrupted one."""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from sparse_ae.loggers import Loggers
from sparse_ae.training.module import ours


class ResumeState(Callback):
    """Saves and restores the global random generators, a callback's wish to stop, and the state of the loggers.

    Of another run's checkpoint, from which a new run starts, no callback but this one takes over its state.
    """

    def __init__(self, loggers: Loggers) -> None:
        self.loggers = loggers
        self._random: dict[str, Any] | None = None
        self._stops = False

    def state_dict(self) -> dict[str, Any]:
        """State of the random generators."""
        return {"random": random_state()}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Record the loggers' states, at the top level, where they are read before training."""
        checkpoint["logged"] = self.loggers.state_dict()
        checkpoint["stops"] = bool(trainer.should_stop)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Forget what other callbacks of another run had found, such as that training should stop."""
        if ours(pl_module).is_own(checkpoint):
            self._stops = checkpoint["stops"]
        else:
            checkpoint["callbacks"] = {self.state_key: checkpoint["callbacks"][self.state_key]}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop where the run was about to stop."""
        trainer.should_stop = trainer.should_stop or self._stops

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until setup has drawn its random numbers."""
        self._random = state_dict["random"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the generators: from here on only training draws random numbers."""
        if self._random is not None:
            set_random_state(self._random)
            self._random = None


def random_state() -> dict[str, Any]:
    """State of Python's, NumPy's and torch's generators, in containers that ``weights_only`` loading knows."""
    version, internal, gauss = random.getstate()
    numpy: Any = np.random.get_state(legacy=True)  # noqa: NPY002, the global generator is meant
    name, keys, *rest = numpy
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore what ``random_state`` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([generator.cpu() for generator in state["cuda"]])
