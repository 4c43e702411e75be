"""Mistakes in the options of Lightning's ``Trainer``, told of the options that make them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lightning.fabric.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from sparse_ae.config.build import PARTIAL, TARGET
from sparse_ae.config.errors import ConfigError, Mistakes
from sparse_ae.training.devices import check_accelerator

_COUNTS = ("accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval")
"""Options by which Lightning would divide in the midst of training."""


def check_options(options: Mapping[str, Any]) -> None:
    """Raise ``ConfigError`` for counts that are 0 and for an accelerator that this machine has not."""
    mistakes = Mistakes()
    for name in _COUNTS:
        value = options.get(name, 1)
        if isinstance(value, int | float) and value <= 0:
            mistakes.add(ConfigError(f"trainer.{name}", value, "should be greater than 0"))
    with mistakes.collect():
        check_accelerator(options)
    mistakes.check()


@contextmanager
def naming_the_options(options: Mapping[str, Any]) -> Iterator[None]:
    """Give a ``ConfigError`` of the block about all of the trainer the keys and values of the options that are wrong.

    Other mistakes of the block are told beside them.
    """
    try:
        yield
    except ConfigError as error:
        mistakes = Mistakes()
        mistakes.add(*(own for own in error.errors if own.key != "trainer"))
        told = {own.key for own in mistakes.found.values()}
        if "trainer.accelerator" not in told:  # which the others are tried with
            for name, reason in _wrong_alone(options):
                if (key := f"trainer.{name}") not in told:
                    mistakes.add(ConfigError(key, options[name], reason))
        mistakes.check()
        raise


def _wrong_alone(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each option that a trainer of the same accelerator refuses without any other, and the reason."""
    base = {"logger": False, "plugins": [LightningEnvironment()], "accelerator": options.get("accelerator", "auto")}
    for name, value in options.items():
        if name not in (TARGET, PARTIAL):
            try:
                Trainer(**{**base, name: value})
            except (MisconfigurationException, TypeError, ValueError) as error:
                yield name, str(error)
