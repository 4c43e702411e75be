"""A sweep from its command to its outcome: plan, skip, launch, wait for other processes, report failures."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from sparse_ae.atomic import make_writable
from sparse_ae.cli.compose import folder
from sparse_ae.cli.overrides import of_runs
from sparse_ae.lock import lacks_locks
from sparse_ae.reporting.console import warn
from sparse_ae.sweeps.console import announce, summarize
from sparse_ae.sweeps.grid import list_jobs
from sparse_ae.sweeps.launching import make_launcher, train
from sparse_ae.sweeps.outcome import Outcome
from sparse_ae.sweeps.plan import Planned, plan, raise_mistakes
from sparse_ae.sweeps.process import StopFile
from sparse_ae.sweeps.search import is_search, search


def sweep(name: str, job: str, config: DictConfig, overrides: Sequence[str]) -> Outcome:
    """Execute every ``job`` of the sweep that is not finished; ``config`` is that of ``conf/<name>.yaml``."""
    if is_search(config):
        return search(name, job, config, overrides)
    planned, rejected = plan(job, config, list_jobs(config, of_runs(overrides)))
    if not planned or (rejected and config.fail_fast):
        raise_mistakes(rejected)
    folders = _folders(planned, folder(config, "hydra.sweep.dir"))
    stop = StopFile(folders[0])
    launcher = make_launcher(job, config, stop.path)
    make_writable(folders[0])
    if warning := lacks_locks(folders[0]):
        warn(warning)
    with stop:
        todo = [p for p in planned if not p.is_settled]
        again = [text for text in overrides if not text.startswith(("rerun=", "hydra.mode="))]
        announce(planned, rejected, todo, folders)
        trouble = train(launcher, todo, stop) if todo else None
        summarize(planned, rejected, folders, [f"sparse-ae-{name}", "-m", *again], trouble)
    failures = [f"{p.run.path.name}: {p.run.record.read_last().error or p.state}" for p in planned if not p.is_done]
    failures += [f"{' '.join(r.overrides)}: {r.why}" for r in rejected]
    return Outcome([p.run for p in planned], failures, len(planned) + len(rejected), stop.signal)


def _folders(planned: Sequence[Planned], usual: Path) -> list[Path]:
    """Folders of the runs: the sweep's ``usual`` one, unless there are several experiments."""
    parents = list(dict.fromkeys(p.run.path.parent for p in planned))
    return [usual] if all(parent.is_relative_to(usual) for parent in parents) else parents
