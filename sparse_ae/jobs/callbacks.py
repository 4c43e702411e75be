"""Callbacks that a config adds to a run's own: built, checked, and asked why training ended."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer, callbacks

from sparse_ae.callbacks.early_stopping import EarlyStopping
from sparse_ae.config.build import TARGET, build, locate, selected
from sparse_ae.config.errors import ConfigError, Mistakes, did_you_mean, listed
from sparse_ae.metrics import NAMES

_NEEDS_LOGGER = (callbacks.LearningRateMonitor, callbacks.DeviceStatsMonitor)


def build_callbacks(config: Mapping[str, Any], *, logs: bool) -> dict[str, Callback]:
    """The callbacks that the group ``callbacks`` of ``config`` selects, by name; ``logs`` if the run has a logger.

    Raises ``ConfigError`` for the mistakes of all of them, and for two that would share their state.
    """
    found: dict[str, Callback] = {}
    mistakes = Mistakes()
    for name, spec in selected(config, "callbacks").items():
        key = f"callbacks.{name}"
        with mistakes.collect():
            kind = locate(spec[TARGET], key)
            if not (isinstance(kind, type) and issubclass(kind, Callback)):
                raise ConfigError(f"{key}.{TARGET}", spec[TARGET], "not a Callback of Lightning's")
            callback: Callback = _built(spec, key)
            if isinstance(callback, _NEEDS_LOGGER) and not logs:
                raise ConfigError(key, reason="has nothing to log into", expected="a logger, as in logger=tensorboard")
            for other, before in found.items():
                if before.state_key == callback.state_key:
                    raise ConfigError(key, reason=f"does the same as callbacks.{other}", expected="one of them")
            found[name] = callback
    mistakes.check()
    return found


def _built(spec: Mapping[str, Any], key: str) -> Any:
    try:
        return build(spec, key)
    except MisconfigurationException as error:
        raise ConfigError(key, reason=str(error)) from error


def check_watched(added: Mapping[str, Callback], losses: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Name and metric of each of the ``added`` callbacks that watches one of validation.

    ``losses`` are the names of what training logs. Raises ``ConfigError`` for a metric that nothing logs.
    """
    validated = [f"val/{name}" for name in NAMES]
    for name, callback in added.items():
        metric = getattr(callback, "monitor", None)
        if not isinstance(metric, str) or metric in losses:
            continue
        if metric not in validated:
            known = [*validated, *losses]
            reason = f"no such metric{did_you_mean(metric, known)}"
            raise ConfigError(f"callbacks.{name}.monitor", metric, reason, listed(known))
        yield name, metric


def why_stopped(trainer: Trainer, total_steps: float, *, is_scheduled: bool) -> str | None:
    """Step and reason of a callback that ended training before its ``total_steps``, one line; None if none did.

    ``is_scheduled``: something was planned over all of training, such as the learning rate.
    """
    step = trainer.global_step
    if not trainer.should_stop or step >= total_steps:
        return None
    reasons = [reason for callback in _callbacks(trainer) if (reason := _reason(callback))]
    of = f" of {total_steps:,.0f}" if math.isfinite(total_steps) else ""
    cut = ". What was scheduled over all of training ended there" if is_scheduled else ""
    return f"after {step:,}{of} steps: {'; '.join(reasons) or 'a callback asked for it'}{cut}"


def _callbacks(trainer: Trainer) -> list[Callback]:
    return trainer.callbacks  # type: ignore[attr-defined,no-any-return]


def _reason(callback: Callback) -> str | None:
    if isinstance(callback, EarlyStopping):
        return callback.reason
    if isinstance(callback, callbacks.EarlyStopping):
        return callback.stopping_reason_message
    if isinstance(callback, callbacks.Timer):
        left = callback.time_remaining()
        return "its time is over" if left is not None and left <= 0 else None
    return None
