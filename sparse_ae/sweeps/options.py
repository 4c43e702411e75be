"""Options of a sweeper, from the config."""

from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sparse_ae.config.build import TARGET, check_spec
from sparse_ae.config.errors import ConfigError

S = TypeVar("S", bound=tuple[Any, ...])


def is_chosen(config: DictConfig, kind: type[tuple[Any, ...]]) -> bool:
    """True if the sweeper of ``config`` is a ``kind``."""
    target = OmegaConf.select(config, f"hydra.sweeper.{TARGET}")
    return bool(target == f"{kind.__module__}.{kind.__name__}")


def options_of(config: DictConfig, kind: type[S]) -> S:
    """The sweeper of a composed ``config``, checked.

    Raises ``ConfigError`` for one of another ``kind`` and for mistakes.
    """
    if not is_chosen(config, kind):
        target = OmegaConf.select(config, f"hydra.sweeper.{TARGET}")
        raise ConfigError(f"hydra.sweeper.{TARGET}", target, "not supported", "hydra/sweeper=grid or search")
    try:
        spec = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(error.full_key or "hydra.sweeper", reason=str(error).splitlines()[0]) from error
    assert isinstance(spec, dict)
    return kind(**check_spec({str(key): value for key, value in spec.items()}, "hydra.sweeper")[1])
