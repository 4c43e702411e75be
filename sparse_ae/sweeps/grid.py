"""The jobs of a sweep: every combination of the values of its axes."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from sparse_ae.cli.overrides import axes, axes_of, parse
from sparse_ae.config.errors import ConfigError
from sparse_ae.sweeps.options import options_of
from sparse_ae.sweeps.plan import compose_job

IsGroup = Callable[[str], bool]


class GridSweeper(NamedTuple):
    """Options of ``hydra/sweeper=grid``: every combination of ``params``, for each of ``grids``."""

    params: Mapping[str, Any] = {}
    """Values of each key: a text as on the command line, ``{seed: "1,2,3"}``, or a list of them."""
    grids: Sequence[Mapping[str, Any]] = ({},)
    """Further axes, one grid after the other."""
    stop_file: str | None = None
    """File by which the sweep asks its jobs to stop; set by the sweep itself."""


def list_jobs(config: DictConfig, arguments: Sequence[str]) -> list[list[str]]:
    """The overrides of every job: the axes of the sweeper's config and of ``arguments``.

    Of several experiments asked for, each brings its own axes. Raises ``ConfigError`` for a sweeper that is not
    ``GridSweeper`` or has mistakes, and for axes without values.
    """
    own = options_of(config, GridSweeper)
    experiments = axes(arguments).get("experiment", [])
    if len(experiments) < 2:
        return expand(own.params, own.grids, arguments, _is_group)
    others = [text for text in arguments if parse([text])[0].get_key_element() != "experiment"]
    return list(itertools.chain.from_iterable(_jobs_of(config, experiment, others) for experiment in experiments))


def _jobs_of(config: DictConfig, experiment: str, others: Sequence[str]) -> list[list[str]]:
    composed = compose_job(config, [experiment])
    own = options_of(composed, GridSweeper)
    if composed.hydra.launcher != config.hydra.launcher:
        raise ConfigError(experiment, reason="sets hydra.launcher; of several experiments none may")
    return expand(own.params, own.grids, [experiment, *others], _is_group)


def _is_group(key: str) -> bool:
    return bool(GlobalHydra.instance().config_loader().get_group_options(key))


def expand(
    params: Mapping[str, Any], grids: Sequence[Mapping[str, Any]], arguments: Sequence[str], is_group: IsGroup
) -> list[list[str]]:
    """Every combination of ``params`` and ``arguments``, for each of ``grids``, in the order given, none twice.

    An argument replaces the axis of its key wherever there is one. A grid that fixes a config group to an option that
    the arguments exclude is dropped (``sparsity: kl``, where ``sparsity=l1`` is asked for), unless all would be.
    Raises ``ConfigError`` for overrides that do not parse or are no list of values.
    """
    asked, common = axes(arguments), axes_of(params)
    of_grids = [axes_of(grid) for grid in grids]
    kept = [grid for grid in of_grids if not _contradicts(grid, asked, is_group)]
    jobs: Iterator[tuple[str, ...]] = itertools.chain.from_iterable(
        itertools.product(*{**common, **grid, **asked}.values()) for grid in kept or of_grids or [{}]
    )
    return [list(job) for job in dict.fromkeys(jobs)]


def _contradicts(grid: Mapping[str, list[str]], asked: Mapping[str, list[str]], is_group: IsGroup) -> bool:
    shared = [key for key in grid if key in asked and is_group(key)]
    return any(not _chosen(grid[key]) & _chosen(asked[key]) for key in shared)


def _chosen(overrides: Sequence[str]) -> set[str]:
    """Values of ``overrides`` however they are quoted."""
    return {str(override.value()) for override in parse(overrides)}
