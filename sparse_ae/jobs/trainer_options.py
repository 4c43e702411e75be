"""Mistakes in the options of Lightning's ``Trainer``, told of the option that makes them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from sparse_ae.config.build import PARTIAL, TARGET
from sparse_ae.config.errors import ConfigError, Mistakes


def check_counts(options: Mapping[str, Any]) -> None:
    """Raise ``ConfigError`` for counts by which Lightning would divide in the midst of training."""
    mistakes = Mistakes()
    for name in ("accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval"):
        value = options.get(name, 1)
        if isinstance(value, int | float) and value <= 0:
            mistakes.add(ConfigError(f"trainer.{name}", value, "should be greater than 0"))
    mistakes.check()


@contextmanager
def naming_the_option(options: Mapping[str, Any]) -> Iterator[None]:
    """Give a ``ConfigError`` of the block about all of the trainer the key and value of the option that is wrong."""
    try:
        yield
    except ConfigError as error:
        wrong = _wrong_alone(options) if error.key == "trainer" else None
        if wrong is None:
            raise
        raise ConfigError(f"trainer.{wrong}", options[wrong], error.reason, error.expected) from error


def _wrong_alone(options: Mapping[str, Any]) -> str | None:
    """The first option that a trainer of the same accelerator refuses without any other."""
    base = {"logger": False, "accelerator": options.get("accelerator", "auto")}
    for name, value in options.items():
        if name not in (TARGET, PARTIAL):
            try:
                Trainer(**{**base, name: value})
            except (MisconfigurationException, TypeError, ValueError):
                return name
    return None
