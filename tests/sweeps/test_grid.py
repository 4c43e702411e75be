"""Values of axes on their way from YAML, or a command line, into the configs of jobs on every launcher."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from sparse_ae.cli.compose import compose, composing
from sparse_ae.cli.overrides import read, written
from sparse_ae.config.errors import ConfigError
from sparse_ae.sweeps.grid import list_jobs
from sparse_ae.sweeps.plan import Planned, compose_job, job_spec, plan
from sparse_ae.sweeps.plugin import job_overrides

KIND = "sparse_ae.jobs.autoencoder:AutoencoderJob"

ODD = """
# @package _global_
hydra:
  sweeper:
    params:
      trainer.gradient_clip_val: [null, 1.0]
      model.hidden_sizes: [[8], []]
      data.root: ["a, b [größe] = 'x' \\\\${1}"]
    grids:
      - {sparsity: [l1], sparsity.atom_norm: false}
"""


@pytest.fixture
def experiments(tmp_path: Path) -> Path:
    """A folder for experiments, whose own name is odd too."""
    folder = tmp_path / "my, conf=(1)" / "experiment"
    folder.mkdir(parents=True)
    return folder


def composed(experiments: Path, *arguments: str) -> DictConfig:
    return compose("train", [*written({"hydra.searchpath": [f"file://{experiments.parent}"]}), *arguments])


def test_values_of_yaml_reach_the_jobs_and_are_composed_again_where_a_launcher_puts_them(
    tmp_path: Path, experiments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (experiments / "odd.yaml").write_text(ODD)
    with composing():
        config = composed(experiments, "experiment=odd", *read(["hydra.sweep.dir=out/lr=${optimizer.lr}"]))
        planned, rejected = plan(KIND, config, list_jobs(config, ["experiment=odd"]))
        again = [job_spec(KIND, compose_job(config, job_overrides(p, config, tmp_path / "stop"))) for p in planned]
    assert rejected == []
    assert [_axes(p.spec.config) for p in planned] == [(None, [8]), (None, []), (1.0, [8]), (1.0, [])]
    assert {p.spec.config["data"]["root"] for p in planned} == {"a, b [größe] = 'x' ${1}"}
    assert {p.spec.config["sparsity"]["atom_norm"] for p in planned} == {False}
    assert {p.run.path.parent for p in planned} == {Path("out/lr=0.001")}
    assert [spec.config for spec in again] == [p.spec.config for p in planned]
    assert [spec.folder for spec in again] == [p.run.path.absolute() for p in planned]
    assert {spec.stop_file for spec in again} == {tmp_path / "stop"}


def _axes(config: dict[str, Any]) -> tuple[Any, ...]:
    return config["trainer"]["gradient_clip_val"], config["model"]["hidden_sizes"]


def test_resume_true_is_the_run_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    planned, rejected = _planned("resume=true,null,false")
    ((run,), (refused,)) = planned, rejected
    assert run.same == [["resume=null"]]
    assert refused.overrides == ["resume=false"]
    assert "rerun=all" in refused.why


def _planned(*arguments: str) -> tuple[list[Planned], list[Any]]:
    with composing():
        config = compose("train", [])
        return plan(KIND, config, list_jobs(config, arguments))


def test_glob_lists_the_options_of_a_group() -> None:
    with composing():
        jobs = list_jobs(compose("train", []), ["model=glob(ml*)"])
    assert jobs == [["model=mlp"], ["model=mlp_encoder"]]


@pytest.mark.parametrize(
    ("sweeper", "message"),
    [
        ("{_target_: other.Sweeper}", r"^hydra\.sweeper\._target_=other\.Sweeper: not supported"),
        ("{foo: 1}", r"^hydra\.sweeper\.foo: no such key"),
        ("{params: {seed: []}}", r"^seed=\[\]: an axis without values"),
        ("{params: {seed: '(1'}}", r"^seed=\(1: not a valid override"),
    ],
)
def test_the_sweeper_of_each_of_several_experiments_is_checked(experiments: Path, sweeper: str, message: str) -> None:
    (experiments / "bad.yaml").write_text(f"# @package _global_\nhydra:\n  sweeper: {sweeper}\n")
    with composing():
        for fixed, asked in ((["experiment=bad"], "bad"), ([], "default,bad")):
            with pytest.raises(ConfigError, match=message):
                list_jobs(composed(experiments, *fixed), [f"experiment={asked}"])
