"""The commands as functions: the same overrides, the same runs in the same folders, the same mistakes as exceptions."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from hydra.core.utils import env_override

from sparse_ae.cli.compose import compose, composing
from sparse_ae.cli.overrides import fixed, read, written
from sparse_ae.cli.single import SingleRun
from sparse_ae.commands import analyse as analysing
from sparse_ae.commands import evaluate as evaluating
from sparse_ae.config.errors import ConfigError, UserError
from sparse_ae.reporting.collect import as_frame, collect
from sparse_ae.run.directory import Run as Directory
from sparse_ae.session.memory import kept
from sparse_ae.session.process import left_as_it_was
from sparse_ae.session.run import Run
from sparse_ae.sweeps.start import start_sweep

_KINDS = {"train": "sparse_ae.jobs.autoencoder:AutoencoderJob", "fit": "sparse_ae.jobs.coder:CoderJob"}


def train(*overrides: str, data: Any = None, labels: Any = None) -> Run:
    """Train one sparse autoencoder, as ``sparse-ae-train`` with these ``overrides`` does, and return its run.

    ``data (n, D)``, or images ``(n, H, W)``, and ``labels (n,)`` may be given as arrays, tensors or data frames; they
    are written into the data cache. A run that is finished is returned at once, an interrupted one is resumed. Ctrl-C
    saves a checkpoint and raises ``KeyboardInterrupt``. Raises ``UserError``, with a line for each mistake.
    """
    return _one("train", overrides, data, labels)


def fit(*overrides: str, data: Any = None, labels: Any = None) -> Run:
    """Fit one classical coder, as ``sparse-ae-fit`` does; see ``train``."""
    return _one("fit", overrides, data, labels)


def sweep(
    *overrides: str, data: Any = None, labels: Any = None, command: Literal["train", "fit"] = "train"
) -> list[Run]:
    """Train every combination of the values ``a,b,c`` of ``overrides``, as ``sparse-ae-train -m`` does.

    Returns the runs, all finished. Ctrl-C lets the jobs save and raises ``KeyboardInterrupt``; the same call goes on.
    Raises ``UserError`` if a run failed; ``runs(folder)`` has the others.
    """
    if command not in _KINDS:
        raise ConfigError("command", command, "no command that sweeps", "train or fit")
    asked = [*_read(overrides, data, labels), "hydra.mode=MULTIRUN"]
    with composing():
        config = compose(command, fixed(asked))
        with left_as_it_was(), env_override(dict(config.hydra.job.env_set)):
            outcome = start_sweep(command, _KINDS[command], config, asked)
    if outcome.signal is not None:
        raise KeyboardInterrupt("stopped; the same call resumes the sweep")
    if outcome.exit_code:
        bad = outcome.failures
        raise UserError("", reason=f"{len(bad)} of {outcome.total} runs are not finished: {'; '.join(bad)}")
    return [Run(run.path) for run in outcome.runs]


def evaluate(run: Directory | str | Path, *overrides: str, data: Any = None, labels: Any = None) -> dict[str, float]:
    """Metrics of a run's model on one split, as ``sparse-ae-evaluate`` prints and writes them."""
    with left_as_it_was():
        return evaluating.evaluate([*_named(run), *_read(overrides, data, labels)])


def analyse(run: Directory | str | Path, *analyses: str) -> Run:
    """Do ``analyses``, as ``sparse-ae-analyse`` does, and return the run; without any, the usual ones.

    Each is a name, such as ``"selectivity"``, or an override, such as ``"analysis.features.top_units=4"``.
    """
    names = [text for text in analyses if isinstance(text, str) and "=" not in text]
    chosen = [f"analysis=[{','.join(names)}]"] if names else []
    with left_as_it_was():
        analysing.analyse([*_named(run), *chosen, *_read(text for text in analyses if text not in names)])
    return open_run(run)


def open_run(path: Directory | str | Path) -> Run:
    """The run in a folder. Raises ``RunError`` if that holds none."""
    return Run.open(_place(path))


def runs(*folders: str | Path) -> pd.DataFrame:
    """All runs in ``folders``, at any depth, a row each, by name: the options in which they differ, their test metrics,
    times in seconds, and state. Raises ``RunError`` for a folder that is missing or has none.
    """
    return as_frame(collect([Path(folder) for folder in folders or ("outputs",)]))


def _one(command: str, overrides: Sequence[str], data: Any, labels: Any) -> Run:
    asked = _read(overrides, data, labels)
    with composing():
        config = compose(command, asked)
        with left_as_it_was():
            single = SingleRun(_KINDS[command], config)
            if not single.is_done():
                single.execute()
    return Run(single.run.path)


def _read(overrides: Iterable[Any], data: Any = None, labels: Any = None) -> list[str]:
    """Overrides as a command takes them, after those that name ``data`` and ``labels`` in memory."""
    overrides = list(overrides)
    for override in overrides:
        if not isinstance(override, str):
            raise ConfigError("overrides", override, "not a text", 'overrides such as "sparsity=l1"')
        key, _, value = override.partition("=")
        if data is not None and key in ("data", "data.path", "data.labels"):
            raise ConfigError(key, value, "given beside data in memory", "one of them")
    return [*kept(data, labels), *read(overrides)]


def _place(run: Directory | str | Path) -> Path:
    return run.path if isinstance(run, Directory) else Path(run)


def _named(run: Directory | str | Path) -> list[str]:
    return written({"run": str(_place(run))})
