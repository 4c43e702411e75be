"""What of their configurations tells runs apart."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

Flat = Mapping[str, Any]
"""A configuration as dotted keys; a section that a class is built from has its option too: ``model: mlp``."""

METHOD, COEFFICIENT, UNITS, SEED = "sparsity", "sparsity.coefficient", "model.latent_dim", "seed"
TARGET, TARGET_MEASURE, TARGET_VALUE = "target", "target.measure", "target.value"
_TARGET = "_target_"


def flatten(config: Mapping[str, Any], choices: Mapping[str, str], prefix: str = "") -> dict[str, Any]:
    """Dotted keys. A section's ``_target_`` becomes the option it was chosen by, or else its class's name in lower
    case.
    """
    flat: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            flat |= flatten(value, choices, f"{key}.")
        elif name == _TARGET:
            section = prefix.removesuffix(".")
            flat[section] = choices.get(section) or str(value).rpartition(".")[2].lower()
        else:
            flat[key] = value
    return flat


def as_method(flat: Flat, units: int | None) -> Flat:
    """A classical coder's configuration as an autoencoder's: it stands where a method does, and its ``units`` where a
    network's do, so that both can be compared. An autoencoder's stays as it is.
    """
    if "coder" not in flat:
        return flat
    names = {"coder": METHOD, "coder.latent_dim": UNITS}
    renamed = {names.get(key, key): value for key, value in flat.items()}
    return renamed if units is None else {UNITS: units} | renamed


def varying(configs: Sequence[Flat]) -> list[str]:
    """The keys in which ``configs`` differ, in the order in which these name them; the seed last, so that runs which
    differ in it alone stand together.

    A key that only some methods have varies if it does among their runs: that the others lack it, the method tells.
    One that repeats the key of the same name at the top everywhere, as ``data.seed`` does, tells nothing.
    """
    keys = dict.fromkeys(key for config in configs for key in config)
    chosen = [key for key in keys if _varies(key, configs) and not _repeats(key, configs)]
    return sorted(chosen, key=lambda key: key == SEED)


def _varies(key: str, configs: Sequence[Flat]) -> bool:
    having = [config for config in configs if key in config]
    if len({cell_text(config[key]) for config in having}) > 1:
        return True
    section = key.partition(".")[0] if "." in key and not key.startswith("coder.") else METHOD
    comparable = {cell_text(config.get(section)) for config in having}
    lacking = (config for config in configs if key not in config)
    return any(cell_text(config.get(section)) in comparable for config in lacking)


def _repeats(key: str, configs: Sequence[Flat]) -> bool:
    section, _, leaf = key.rpartition(".")
    return bool(section) and all(leaf in c and c[leaf] == c[key] for c in configs if key in c)


def cell_text(value: Any) -> str:
    """A value of a configuration as YAML would show it: text bare, all else as JSON, with every digit."""
    return value if isinstance(value, str) else json.dumps(value)


def group_name(config: Flat, columns: Sequence[str], *besides: str) -> str:
    """What tells repetitions of a method from others: ``columns`` without the seed and what is drawn ``besides``."""
    keys = [key for key in columns if key not in (METHOD, SEED, *besides) and key in config]
    return ", ".join(f"{key.rpartition('.')[2]} {cell_text(config[key])}" for key in keys)


def sort_key(config: Flat, keys: Sequence[str]) -> tuple[Any, ...]:
    """Order by the values of ``keys``: numbers by size, then text, then what is missing."""
    return tuple(_rank(config, key) for key in keys)


def _rank(config: Flat, key: str) -> tuple[int, float, str]:
    if key not in config:
        return (2, 0.0, "")
    number = as_number(config[key])
    return (1, 0.0, cell_text(config[key])) if number is None else (0, number, "")


def as_number(value: Any) -> float | None:
    """``value`` if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer too large for a float
        return None
