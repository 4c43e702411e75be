"""Composition of a command's config with Hydra.

Nothing here imports torch, so that ``--help`` and a mistyped key answer at once.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.callbacks import Callbacks  # what Hydra's own jobs and launchers are handed; it has no other home
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sparse_ae.cli.launchers import register_launchers
from sparse_ae.cli.mistakes import ComposeError, check_options, check_overrides
from sparse_ae.config.errors import ConfigError, UserError
from sparse_ae.config.groups import conf_dir
from sparse_ae.data.activations import files as activations
from sparse_ae.data.content import FILES, identity, with_absolute_paths
from sparse_ae.run.naming import run_name


def _run_name(*, _root_: DictConfig) -> str:
    """Resolve ``${run_name:}``."""
    return run_name(task_config(_root_), _root_.hydra.runtime.choices)


def _weights_of(*, _root_: DictConfig) -> str | None:
    """Resolve ``${weights_of:}``: a digest of the weights of ``coder.run``."""
    from sparse_ae.jobs.from_run import digest  # imports torch

    run = OmegaConf.select(_root_, "coder.run")
    return digest(run) if isinstance(run, str) else None


def _content_of(kind: str = "arrays", *, _root_: DictConfig) -> str | None:
    """Resolve ``${content_of:}``, ``${content_of:pictures}`` or ``${content_of:activations}``: a digest of the files
    of ``data``.
    """

    def tell(line: str) -> None:
        print(line, file=sys.stderr)

    try:
        if kind == "activations":
            return activations.identity(_options(_root_, activations.FILES), tell)
        files = _options(_root_, FILES)
        if not all(isinstance(file, str | None) for file in files.values()):
            return None
        return identity(files, tell, pictures=kind == "pictures")
    except (UserError, OSError):  # the data module says what is wrong with a file
        return None


def _options(config: DictConfig, keys: Iterable[str]) -> dict[str, Any]:
    return {key: OmegaConf.select(config, f"data.{key}") for key in keys}


OmegaConf.register_new_resolver("content_of", _content_of, replace=True)
OmegaConf.register_new_resolver("run_name", _run_name, replace=True)
OmegaConf.register_new_resolver("weights_of", _weights_of, replace=True)


@contextmanager
def composing() -> Iterator[None]:
    """Make ``conf/`` the place that ``compose`` reads, for as long as the block lasts.

    A session may be inside of a Hydra application of the user's, which finds Hydra's global state as it was.
    """
    around, its_config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            register_launchers()
            yield
    finally:
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = around, its_config


def compose(name: str, overrides: Sequence[str]) -> DictConfig:
    """The config ``conf/<name>.yaml`` with ``overrides`` and Hydra's node, inside ``composing``.

    Raises ``ConfigError`` for every override that cannot be applied.
    """
    with explained(name, overrides):
        config = hydra.compose(name, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(config)  # what ${hydra:...} in a folder's name refers to
    return config


@contextmanager
def explained(name: str, overrides: Sequence[str]) -> Iterator[None]:
    """Turn what Hydra raises in the block, where it composes ``overrides``, into ``ConfigError``.

    Also refuses options that Hydra would take and that do not work here.
    """
    try:
        yield
    except ComposeError as error:
        check_overrides(name, overrides, error)
    check_options(name, overrides)


def task_config(config: DictConfig) -> dict[str, Any]:
    """The config as plain, resolved containers, without Hydra's own node.

    Raises ``ConfigError`` for a value that refers to a key or an environment variable that does not exist.
    """
    try:
        plain = OmegaConf.to_container(without_hydra(config), resolve=True)
    except OmegaConfBaseException as error:
        raise _unresolved(error) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def folder(config: DictConfig, key: str) -> Path:
    """The folder that ``key`` of Hydra's node names. Raises ``ConfigError`` if it names none."""
    try:
        name = OmegaConf.select(config, key)
    except OmegaConfBaseException as error:
        raise _unresolved(error) from error
    if not name:
        raise ConfigError(key, name, "names no folder", "a folder, . for this one")
    return Path(name)


def _unresolved(error: OmegaConfBaseException) -> ConfigError:
    return ConfigError(error.full_key or "", reason=str(error).splitlines()[0])


def without_hydra(config: DictConfig) -> DictConfig:
    """The config without Hydra's own node."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def sources(config: DictConfig) -> dict[str, str]:
    """Contents of a run's ``.hydra`` folder, by file name, from its config with Hydra's node."""
    task = task_config(config)
    task["data"] = with_absolute_paths(task["data"])
    return {
        "config.yaml": OmegaConf.to_yaml(OmegaConf.create(task)),  # resolved: a file that it names may go
        "hydra.yaml": OmegaConf.to_yaml(OmegaConf.masked_copy(config, "hydra")),
        "overrides.yaml": OmegaConf.to_yaml(config.hydra.overrides.task),
    }


def hydra_context(config: DictConfig) -> HydraContext:
    """The context that Hydra's job runner and launchers want, inside ``composing``.

    Raises ``ConfigError`` for callbacks that cannot be made.
    """
    try:
        callbacks = Callbacks(config)
    except HydraException as error:
        raise ConfigError("hydra.callbacks", reason=str(error.__cause__ or error)) from error
    return HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=callbacks)
