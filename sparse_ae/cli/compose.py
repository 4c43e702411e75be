"""What the commands share: composing the config, and errors as one clear line.

Nothing here imports torch, so that ``--help`` and a mistyped key answer at once.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sparse_ae.config.errors import ConfigError, did_you_mean, listed
from sparse_ae.runs.naming import run_name


def _run_name(*, _root_: DictConfig) -> str:
    """The resolver behind ``${run_name:}``."""
    return run_name(task_config(_root_), _root_.hydra.runtime.choices)


def _weights_of(*, _root_: DictConfig) -> str | None:
    """The resolver behind ``${weights_of:}``: which weights are those of ``coder.run``."""
    from sparse_ae.jobs.from_run import digest  # imports torch

    return digest(OmegaConf.select(_root_, "coder.run"))


OmegaConf.register_new_resolver("run_name", _run_name, replace=True)
OmegaConf.register_new_resolver("weights_of", _weights_of, replace=True)


def conf_dir() -> Path:
    """``conf/`` inside an installed package, else beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def _prefer_our_launchers() -> None:
    """Hydra checks an option against a plugin's of the same name, and warns of it: ours takes its place."""
    Plugins.instance()  # they have registered theirs now
    registered = ConfigStore.instance().repo["hydra"]["launcher"]
    for ours in (conf_dir() / "hydra" / "launcher").iterdir():
        registered.pop(ours.name, None)


_prefer_our_launchers()


def task_config(config: DictConfig) -> dict[str, Any]:
    """The config as plain, resolved containers, without Hydra's own node."""
    plain = OmegaConf.to_container(_without_hydra(config), resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def compose(name: str, overrides: Sequence[str], config_dir: str | None = None) -> DictConfig:
    """The config ``name`` with Hydra's node. Raises ``ConfigError``, one line, for whatever cannot be composed."""
    if config_dir and not Path(config_dir).is_dir():
        raise ConfigError(f"--config-dir {config_dir}: no such folder")
    search = [f"hydra.searchpath=[file://{Path(config_dir).absolute()}]"] if config_dir else []
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            try:
                return hydra.compose(name, [*overrides, *search], return_hydra_config=True)
            except MissingConfigException as error:
                raise ConfigError(_missing_option(error)) from error
    except OverrideParseException as error:
        raise ConfigError(f"{error.override}: is no override (allowed: key=value, group=option)") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_unknown_key(error, overrides, lambda kept: compose(name, kept, config_dir))) from error


def explain(error: Exception, overrides: Sequence[str], without: Callable[[list[str]], DictConfig]) -> str:
    """One line about why ``overrides`` of a sweep cannot be composed; ``without`` composes fewer of them."""
    if isinstance(error, OverrideParseException):
        return f"{error.override}: is no override (allowed: key=value, group=option)"
    if isinstance(error, MissingConfigException):
        return _missing_option(error)
    return _unknown_key(error, overrides, without)


def _missing_option(error: MissingConfigException) -> str:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    options = GlobalHydra.instance().config_loader().get_group_options(group)
    return f"{group}={option}: no such option{did_you_mean(option, options)} (expected {listed(options)})"


def _unknown_key(error: Exception, overrides: Sequence[str], without: Callable[[list[str]], DictConfig]) -> str:
    """Name the key, what was given, and the keys that do exist at that place; ``without`` composes fewer overrides."""
    match = re.match(r"Could not override '([^']+)'", str(error)) or re.search(r"full_key: (\S+)", str(error.__cause__))
    if match is None:
        return " ".join(str(error.__cause__ or error).split("\n")[:1])
    key = match[1]
    if not any(key in override for override in overrides):  # no mistake of the command line's
        return " ".join(str(error.__cause__ or error).split())
    given = next((o for o in overrides if o.lstrip("+~").split("=")[0].split("@")[0] == key), key)
    *parents, leaf = key.split(".")
    place: Any = without([o for o in overrides if o != given])
    for depth, parent in enumerate(parents):
        if not OmegaConf.is_dict(place) or parent not in place:
            leaf, parents = parent, parents[:depth]
            break
        place = place[parent]
    if not OmegaConf.is_dict(place):
        return f"{given}: {'.'.join(parents)} has no keys of its own"
    where = ".".join(parents)
    keys = [str(k) for k in place if k not in ("_target_", "_partial_")]
    message = (
        f"{given}: no such key{f' in {where}' if where else ''}{did_you_mean(leaf, keys)} (expected {listed(keys)})"
    )
    return message + (f"; to pass {where} a further option, +{given}" if "_target_" in place else "")


def quoted(value: str) -> str:
    """``value`` as an override's value, whatever characters it has."""
    before_quote = re.sub(r"(\\*)'", r"\1\1\\'", value)  # only there is a backslash an escape
    return "'" + re.sub(r"(\\+)$", r"\1\1", before_quote) + "'"


def sources(config: DictConfig) -> dict[str, str]:
    """The files of a run's ``.hydra`` folder, as Hydra itself would write them for the job under way."""
    node: Any = HydraConfig.instance().cfg
    return {
        "config.yaml": OmegaConf.to_yaml(_without_hydra(config)),
        "hydra.yaml": OmegaConf.to_yaml(OmegaConf.masked_copy(node, "hydra")),
        "overrides.yaml": OmegaConf.to_yaml(node.hydra.overrides.task),
    }


def parse_overrides(program: str, description: str, config_name: str) -> list[str]:
    """The overrides of a command that is no Hydra app; answers ``--help`` with every key and its default."""
    keys = OmegaConf.to_yaml(_without_hydra(compose(config_name, [])))
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=f"keys and their defaults:\n\n{keys}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    return list(parser.parse_args().overrides)


def _without_hydra(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


@contextmanager
def one_line_errors(program: str) -> Iterator[None]:
    """Any exception becomes one line on stderr and exit code 1; ``HYDRA_FULL_ERROR=1`` brings the trace back."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"{program}: error: {describe(error)}", file=sys.stderr)
        raise SystemExit(1) from None


def describe(error: BaseException) -> str:
    """One line about an error; what is no foreseen mistake also says its type and how to see where it happened."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ValueError | OSError) or type(error).__module__.startswith(("sparse_ae.", "lightning.")):
        return text
    return f"{type(error).__name__}: {text} (HYDRA_FULL_ERROR=1 shows where)"


def program_of(config_name: str) -> str:
    """The command that ``conf/<config_name>.yaml`` belongs to."""
    return f"sparse-ae-{config_name}"


def hydra_app(name: str, task: Callable[[DictConfig], None]) -> None:
    """Hand over to Hydra: directories, logging, multirun, launchers."""
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(task)()
