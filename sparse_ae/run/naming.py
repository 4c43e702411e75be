"""Identity of a run: a hash over all of the config that changes the result, and a name with it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sparse_ae.config.build import TARGET
from sparse_ae.data.activations.files import FILES as ACTIVATIONS
from sparse_ae.data.content import FILES

_NO_EFFECT_ON_RESULTS = (
    "analysis",
    "callbacks.learning_rate_monitor",
    "checkpoint.every_n_minutes",
    "coder.run",  # its atoms are what matters
    "data.device",
    "data.eval_batch_size",
    "data.harvest_batch",
    "data.layers",
    "data.num_workers",
    *(f"data.{key}" for key in (*FILES, *ACTIVATIONS)),  # data.content is what matters
    "data.root",
    "data.storage",
    "fail_fast",
    "logger",
    "rerun",
    "threads",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "trainer.profiler",
    "visuals",
)
"""Keys that set where and how to run and what to draw, and do not change the result."""


def config_hash(config: Mapping[str, Any]) -> str:
    """Eight hex digits over everything in the composed config that changes the result, and nothing that does not."""
    return hashlib.sha256(json.dumps(relevant_config(config), sort_keys=True).encode()).hexdigest()[:8]


def relevant_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the composed config that changes the result."""
    relevant = {
        section: node if section == "trainer" else _canonical(node)  # for a Trainer 1 batch and 1.0 of them differ
        for section, node in json.loads(json.dumps(config)).items()
    }
    for key in _NO_EFFECT_ON_RESULTS:
        *parents, leaf = key.split(".")
        node = relevant
        for parent in parents:
            node = _section(node, parent)
        node.pop(leaf, None)
    callbacks = _section(relevant, "callbacks")
    relevant.pop("callbacks", None)
    if chosen := {name: spec for name, spec in callbacks.items() if TARGET in _section(callbacks, name)}:
        relevant["callbacks"] = chosen
    if relevant.get("resume") is True:  # what a repeated command does anyway
        relevant["resume"] = None
    return relevant


def _canonical(value: Any) -> Any:
    """Make one number of 1 and 1.0."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def run_name(config: Mapping[str, Any], choices: Mapping[str, Any]) -> str:
    """``kl-w0.01-n128-s42-1a2b3c4d``: what makes codes sparse, its setting, latent_dim, seed, hash.

    That is the sparsity method, a classical coder, or a network that chooses its k active units itself.

    Any config has a name, also one with mistakes, which are found when it is built.
    """
    chooses = choices.get("sparsity") == "none" and "k" in _section(config, "model")
    section = "coder" if "coder" in config else "model" if chooses else "sparsity"
    units = _section(config, "coder" if section == "coder" else "model").get("latent_dim")
    parts = [
        str(choices.get(section)),
        *_sparsity(_section(config, "target"), _section(config, section)),
        *([] if units is None else [f"n{units}"]),
        f"s{config.get('seed')}",
        config_hash(config),
    ]
    return "-".join(parts)


def _section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The options of a group; empty if it has none or is no group."""
    section = config.get(name)
    return section if isinstance(section, dict) else {}


def _sparsity(target: Mapping[str, Any], method: Mapping[str, Any]) -> list[str]:
    """The target if there is one, else the coefficient or the number of units kept: ``l0-32``, ``w0.01``, ``k32``."""
    if "measure" in target:
        return [f"{str(target['measure']).partition('_')[0]}-{_number(target.get('value'))}"]
    if target:
        return ["path"]
    letters = {"coefficient": "w", "k": "k", "n_nonzero": "k", "share": "p", "penalty": "w"}
    for key, letter in letters.items():
        if key in method:
            return [f"{letter}{_number(method[key])}"]
    return []


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
