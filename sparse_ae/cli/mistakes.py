"""Every mistake in a command's overrides at once: what does not parse, and keys and options that do not exist."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import hydra
from hydra.core.override_parser.types import Override, QuotedString, ValueType
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from sparse_ae.cli.options import installation, options, search_path
from sparse_ae.cli.overrides import for_shell, one_text, parse
from sparse_ae.config.build import PARTIAL, TARGET
from sparse_ae.config.errors import NOT_GIVEN, ConfigError, Mistakes, describe, did_you_mean, listed
from sparse_ae.config.flat import flatten

ComposeError = (HydraException, OmegaConfBaseException, ValueError, KeyError)
"""Exceptions that Hydra composes with: ValueError for ``group=null``, KeyError for ``hydra.job.env_copy``."""


def check_options(name: str, overrides: Sequence[str]) -> None:
    """Raise ``ConfigError`` for options that Hydra takes and that do not work in the command ``name``."""
    mistakes = Mistakes()
    for override in parse(overrides):
        if offered := options(override.key_or_group, overrides):
            with mistakes.collect():
                _check_option(name, override, offered)
    mistakes.check()


def check_overrides(name: str, overrides: Sequence[str], error: Exception) -> None:
    """Raise ``ConfigError`` for the mistakes by which ``overrides`` cannot be composed, and Hydra raised ``error``."""
    base = hydra.compose(name, return_hydra_config=True)
    known = {*base, *base.hydra.runtime.choices}
    mistakes = Mistakes()
    choices, values = search_path(overrides), []
    if choices and _composed(name, choices) is None:
        raise _refused(name, choices, error) from error
    for text in overrides:
        with mistakes.collect():
            (override,) = parse([text])
            if override.is_sweep_override():
                raise _several_values(override)
            offered = options(override.key_or_group, overrides)
            if offered and (override.is_add() or override.key_or_group in known):
                _check_option(name, override, offered)
                choices.append(text)
            elif "/" in override.key_or_group:
                groups = [group for group in base.hydra.runtime.choices if options(group)]
                raise ConfigError(text, reason="no such group of options", expected=listed(groups))
            elif not override.is_add():
                values.append(override)
    config = _composed(name, choices)
    for override in values if config is not None else ():
        with mistakes.collect():
            _check_key(config, override)
    mistakes.check()
    if isinstance(error, MissingConfigException):
        raise _missing_option(error, overrides) from error
    raise _refused(name, overrides, error) from error


def _composed(name: str, overrides: Sequence[str]) -> DictConfig | None:
    """The config, or None if Hydra composes none."""
    try:
        return hydra.compose(name, list(overrides), return_hydra_config=True)
    except ComposeError:
        return None


def _several_values(override: Override) -> ConfigError:
    key, _, values = (override.input_line or "").partition("=")
    reason = "several values; a sweep needs -m, or sparse_ae.sweep, and a list is written [a,b]"
    is_list = override.value_type is ValueType.SIMPLE_CHOICE_SWEEP and not options(override.key_or_group)
    if is_list and any(isinstance(item, str | QuotedString) for item in override.sweep_iterator()):
        reason += f", a text {for_shell(key, one_text(override))}"
    return ConfigError(key, values, reason)


def _check_option(name: str, override: Override, offered: Sequence[str]) -> None:
    chosen, group = override.value(), override.key_or_group
    if override.is_delete():
        if _choices(name).get(group, "") is not None:
            raise ConfigError(f"~{group}", reason="cannot be left out", expected=listed(offered))
        return
    if override.is_sweep_override() or isinstance(chosen, dict):
        return
    if isinstance(chosen, list) and group in _choices(name):
        raise ConfigError(group, chosen, "several options of a group that has one", listed(offered))
    for option in chosen if isinstance(chosen, list) else [chosen]:
        if str(option) not in offered:
            raise ConfigError(group, option, f"no such option{_hint(group, str(option), offered)}", listed(offered))


def _hint(group: str, option: str, offered: Sequence[str]) -> str:
    return installation(group, option) or did_you_mean(option, offered)


@functools.cache
def _choices(name: str) -> Mapping[str, str | None]:
    """The option of each group of which the command ``name`` has one."""
    return dict(hydra.compose(name, return_hydra_config=True).hydra.runtime.choices)


def _missing_option(error: MissingConfigException, overrides: Sequence[str]) -> ConfigError:
    """An option that a config file asks for."""
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    offered = options(group, overrides)
    return ConfigError(group, option, f"no such option{_hint(group, option, offered)}", listed(offered))


def _refused(name: str, overrides: Sequence[str], error: Exception) -> ConfigError:
    """The first of ``overrides`` that Hydra refuses by itself, with its reason; else ``error``."""
    for text in overrides:
        try:
            hydra.compose(name, [text], return_hydra_config=True)
        except ComposeError as own:
            key, equals, value = text.partition("=")
            return ConfigError(key, value if equals else NOT_GIVEN, _reason(own))
    return ConfigError("", reason=_reason(error))


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    if isinstance(cause, ValidationError) and "not Optional" in str(cause):
        return "cannot be null"
    return describe(cause) if type(cause) is KeyError else str(cause).splitlines()[0]


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
    value = NOT_GIVEN if override.is_delete() else override.get_value_string()
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
    plain = OmegaConf.to_container(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    assert isinstance(plain, dict)
    keys = [key for key in flatten({str(k): v for k, v in plain.items()}) if key.endswith(f".{leaf}")]
    return f"; did you mean {keys[0]}?" if keys else ""
