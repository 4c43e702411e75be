"""Configurations of runs as columns of a table: keys, values and their text."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sparse_ae.config.flat import flatten

Flat = Mapping[str, Any]
"""A configuration under dotted keys. A section built from a class also has its option: ``model: mlp``."""

METHOD, COEFFICIENT, UNITS, SEED = "sparsity", "sparsity.coefficient", "model.latent_dim", "seed"
TARGET, TARGET_MEASURE, TARGET_VALUE = "target", "target.measure", "target.value"
_CLASS, _PARTIAL = "._target_", "._partial_"


def flat_config(config: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, Any]:
    """Return ``config`` under dotted keys, the option of a section in place of its ``_target_`` and ``_partial_``.

    The option is the one in ``choices``, else the name of the class in lower case.
    """
    flat: dict[str, Any] = {}
    for key, value in flatten(config).items():
        if key.endswith(_CLASS):
            section = key.removesuffix(_CLASS)
            flat[section] = choices.get(section) or str(value).rpartition(".")[2].lower()
        elif not key.endswith(_PARTIAL):
            flat[key] = value
    return flat


def as_method(flat: Flat, units: int | None) -> Flat:
    """Return a configuration with what makes its codes sparse as the sparsity method, so that tables compare all.

    A classical coder takes that place, and its ``units`` those of the network; so does a network that chooses its k
    active units itself. Other autoencoders' configurations are returned unchanged.
    """
    if "coder" not in flat:
        chooses = flat.get(METHOD) == "none" and "model.k" in flat
        return {**flat, METHOD: flat["model"]} if chooses else flat
    names = {"coder": METHOD, "coder.latent_dim": UNITS}
    renamed = {names.get(key, key): value for key, value in flat.items()}
    return renamed if units is None else {UNITS: units} | renamed


def group_name(config: Flat, columns: Sequence[str], *besides: str) -> str:
    """Name the group of a run: its values in ``columns``, without method, seed and the keys in ``besides``.

    Runs of one method and group are repetitions of each other.
    """
    keys = [key for key in columns if key not in (METHOD, SEED, *besides) and key in config]
    return ", ".join(f"{key.rpartition('.')[2]} {cell_text(config[key])}" for key in keys)


def cell_text(value: Any) -> str:
    """Return a value of a configuration as YAML shows it: text bare, all else as JSON with every digit.

    Text that would read as something else is in quotes, so that ``"1"`` and ``"null"`` are not 1 and null.
    """
    return value if isinstance(value, str) and not _reads_otherwise(value) else json.dumps(value)


def _reads_otherwise(text: str) -> bool:
    """True if ``text`` is empty, which a missing value is too, or reads as a number, null, true, false or a list."""
    try:
        json.loads(text)
    except ValueError:
        return not text
    return True


def as_number(value: Any) -> float | None:
    """Return ``value`` as a float if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer too large for a float
        return None
