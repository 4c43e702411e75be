"""Composition of a command's config with Hydra, and every mistake in its overrides at once.

Nothing here imports torch, so that ``--help`` and a mistyped key answer at once.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.callbacks import Callbacks  # what Hydra's own jobs and launchers are handed; it has no other home
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sparse_ae.cli.overrides import parse
from sparse_ae.config.build import PARTIAL, TARGET
from sparse_ae.config.errors import NOT_GIVEN, ConfigError, Mistakes, UserError, did_you_mean, listed
from sparse_ae.config.flat import flatten
from sparse_ae.data.content import FILES, identity
from sparse_ae.runs.naming import run_name


def _run_name(*, _root_: DictConfig) -> str:
    """Resolve ``${run_name:}``."""
    return run_name(task_config(_root_), _root_.hydra.runtime.choices)


def _weights_of(*, _root_: DictConfig) -> str | None:
    """Resolve ``${weights_of:}``: a digest of the weights of ``coder.run``."""
    from sparse_ae.jobs.from_run import digest  # imports torch

    return digest(OmegaConf.select(_root_, "coder.run"))


def _content_of(kind: str = "arrays", *, _root_: DictConfig) -> str | None:
    """Resolve ``${content_of:}`` and ``${content_of:pictures}``: a digest of the files of ``data``."""
    files = {key: OmegaConf.select(_root_, f"data.{key}", throw_on_missing=True) for key in FILES}
    try:
        return identity(files, lambda line: print(line, file=sys.stderr), pictures=kind == "pictures")
    except (UserError, OSError):  # the data module says what is wrong with a file
        return None


OmegaConf.register_new_resolver("content_of", _content_of, replace=True)
OmegaConf.register_new_resolver("run_name", _run_name, replace=True)
OmegaConf.register_new_resolver("weights_of", _weights_of, replace=True)


def conf_dir() -> Path:
    """``conf/`` inside an installed package, else beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


@contextmanager
def composing() -> Iterator[None]:
    """Make ``conf/`` the place that ``compose`` reads, for as long as the block lasts."""
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield


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
    """Turn what Hydra raises in the block, where it composes ``overrides``, into ``ConfigError``."""
    try:
        yield
    except ConfigError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # Hydra raises ValueError for group=null
        _check_overrides(name, overrides)
        if isinstance(error, MissingConfigException):
            raise _missing_option(error) from error
        raise ConfigError("", reason=str(error.__cause__ or error)) from error


def _check_overrides(name: str, overrides: Sequence[str]) -> None:
    """Raise ``ConfigError`` for overrides that do not parse, or name an option or a key that does not exist."""
    base = hydra.compose(name, return_hydra_config=True)
    known = {*base, *base.hydra.runtime.choices}
    mistakes = Mistakes()
    choices, values = [], []
    for text in overrides:
        with mistakes.collect():
            (override,) = parse([text])
            if override.is_sweep_override():
                key, _, values_given = text.partition("=")
                raise ConfigError(key, values_given, "several values; a sweep needs -m, and a list is written [a,b]")
            options = _options(override.key_or_group)
            if options and (override.is_add() or override.key_or_group in known):
                _check_option(override, options)
                choices.append(text)
            elif not override.is_add():
                values.append(override)
    try:
        config = hydra.compose(name, choices, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, ValueError):  # not the overrides' fault
        config = None
    for override in values if config is not None else ():
        with mistakes.collect():
            _check_key(config, override)
    mistakes.check()


def _options(group: str) -> list[str]:
    """Options of a config group; empty if there is no such group."""
    return [str(option) for option in GlobalHydra.instance().config_loader().get_group_options(group)]


def _check_option(override: Override, options: Sequence[str]) -> None:
    chosen = override.value()
    for option in chosen if isinstance(chosen, list) else [chosen]:
        if str(option) not in options:
            group = override.key_or_group
            raise ConfigError(group, option, f"no such option{did_you_mean(str(option), options)}", listed(options))


def _missing_option(error: MissingConfigException) -> ConfigError:
    """An option that a config file asks for."""
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    options = _options(group)
    hint = did_you_mean(option, options)
    if group == "hydra/launcher":
        hint = "; pip install 'sparse-ae[slurm]' or 'sparse-ae[ray]' brings it"
    return ConfigError(group, option, f"no such option{hint}", listed(options))


def _check_key(config: Any, override: Override) -> None:
    """Raise ``ConfigError`` unless ``config`` has the key of ``override``."""
    key = override.key_or_group
    *parents, leaf = key.split(".")
    place = config
    for depth, parent in enumerate(parents):
        if not OmegaConf.is_dict(place) or parent not in place:
            leaf, parents = parent, parents[:depth]
            break
        place = place[parent]
    where = ".".join(parents)
    value = NOT_GIVEN if override.is_delete() else override.get_value_element_as_str()
    if not OmegaConf.is_dict(place):
        raise ConfigError(key, value, f"{where} has no keys of its own")
    names = [str(name) for name in place if name not in (TARGET, PARTIAL)]
    if leaf in (*names, TARGET, PARTIAL):  # "in place" would deny what is ???
        return
    hint = did_you_mean(leaf, names) or _elsewhere(config, leaf)
    reason = f"no such key{f' in {where}' if where else ''}{hint}"
    if TARGET in place and not hint:
        reason += f"; +{key} passes {where} a further option"
    raise ConfigError(key, value, reason, listed(names))


def _elsewhere(config: DictConfig, leaf: str) -> str:
    """Suggestion of a key of that name in another group, such as ``model.latent_dim`` for ``latent_dim``."""
    keys = [key for key in flatten(task_config(config)) if key.endswith(f".{leaf}")]
    return f"; did you mean {keys[0]}?" if keys else ""


def task_config(config: DictConfig) -> dict[str, Any]:
    """The config as plain, resolved containers, without Hydra's own node."""
    plain = OmegaConf.to_container(without_hydra(config), resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def without_hydra(config: DictConfig) -> DictConfig:
    """The config without Hydra's own node."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def sources(config: DictConfig) -> dict[str, str]:
    """Contents of a run's ``.hydra`` folder, by file name, from its config with Hydra's node."""
    return {
        "config.yaml": OmegaConf.to_yaml(without_hydra(config), resolve=True),  # a file that it names may go
        "hydra.yaml": OmegaConf.to_yaml(OmegaConf.masked_copy(config, "hydra")),
        "overrides.yaml": OmegaConf.to_yaml(config.hydra.overrides.task),
    }


def hydra_context(config: DictConfig) -> HydraContext:
    """The context that Hydra's job runner and launchers want, inside ``composing``."""
    return HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks(config))
