"""The option ``pack`` for the launchers of plugins, whose schemas do not have it."""

from dataclasses import make_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

EXTENDED = {"slurm": "submitit_slurm", "slurm_local": "submitit_local", "ray_cluster": "ray"}
"""Launchers, and those of plugins that they extend."""


def register_launchers() -> None:
    """Store the schema of each plugin that is installed once more, as ``_NAME``, with ``pack``.

    The plugin's own stays as it is for whoever else composes configs in this process.
    """
    store = ConfigStore.instance()
    stored = store.repo["hydra"]["launcher"]
    for plugin in EXTENDED.values():
        if f"{plugin}.yaml" in stored and f"_{plugin}.yaml" not in stored:
            schema = OmegaConf.get_type(stored[f"{plugin}.yaml"].node) or object
            packing = make_dataclass(schema.__name__, [("pack", Any, "off")], bases=(schema,))
            store.store(group="hydra/launcher", name=f"_{plugin}", node=packing, provider="sparse_ae")
