"""Config groups of a command, and the options that it offers: those that work in it."""

import functools
from collections.abc import Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from omegaconf import DictConfig

from sparse_ae.cli.launchers import EXTENDED

_NOT_SUPPORTED = {
    "hydra": ("config",),  # the schema of Hydra's own settings
    "hydra/sweeper": ("basic",),  # knows no grids, plans nothing and skips no finished run
    "hydra/launcher": ("ray_aws",),  # its machines do not share the folders of the runs
}
"""Options that Hydra and its plugins bring and that a sweep here has no use for, by group."""


def groups(config: DictConfig) -> list[str]:
    """Groups whose options the command of ``config`` takes: those that its config has a place for."""
    loader = GlobalHydra.instance().config_loader()
    top = [str(group) for group in loader.list_groups("") if group in config or group in config.hydra.runtime.choices]
    return sorted(group for group in top if group != "hydra")


def options(group: str, overrides: Sequence[str] = ()) -> list[str]:
    """Options of a config group, also in the folders that ``overrides`` add; empty if there is no such group.

    No group has a dot in its name: that is a key, for which Hydra would look through all folders.
    """
    if "." in group:
        return []
    return _options(GlobalHydra.instance().config_loader(), group, *search_path(overrides))


@functools.lru_cache(maxsize=1000)  # asked for every key of every job of a sweep
def _options(loader: ConfigLoader, group: str, *overrides: str) -> list[str]:
    names = {*map(str, loader.get_group_options(group, ObjectType.CONFIG, overrides=list(overrides)))}
    if group == "hydra/launcher":
        names -= {name for name, plugin in EXTENDED.items() if plugin not in names}
    names = {name for name in names if not name.startswith("_")}  # schemas of ours
    return sorted(names.difference(_NOT_SUPPORTED.get(group, ())))


def installation(group: str, option: str) -> str:
    """``; pip install 'sparse-ae[ray]'`` for an option of Hydra's that needs an extra, else nothing."""
    plugin = EXTENDED.get(option, option)
    if group == "hydra/launcher" and plugin in EXTENDED.values():
        extra = "ray" if plugin == "ray" else "slurm"
    elif (group, option) == ("hydra/sweeper", "search"):
        extra = "search"
    else:
        return ""
    return f"; pip install 'sparse-ae[{extra}]' brings it"


def search_path(overrides: Sequence[str]) -> list[str]:
    """Select the ``overrides`` that add folders of configs."""
    return [text for text in overrides if text.startswith("hydra.searchpath=")]
