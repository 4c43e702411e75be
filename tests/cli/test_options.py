"""Everything that ``--help`` and error messages offer, composed and checked."""

import re
from itertools import zip_longest

import pytest
from hydra.core.config_store import ConfigStore

from sparse_ae.cli.compose import compose, composing, task_config
from sparse_ae.cli.options import groups, options
from sparse_ae.config.build import check_arguments, locate
from sparse_ae.sweeps.grid import list_jobs
from sparse_ae.sweeps.plugin import plugin_launcher
from tests.helpers import CONF, OF_SEVERAL, Cli

OF_HYDRA = ["env", "help", "hydra_help", "hydra_logging", "job_logging", "launcher", "output", "sweeper"]
GROUPS = {
    "train": [
        "analysis",
        "callbacks",
        "data",
        "dead",
        "experiment",
        "logger",
        "model",
        "optimizer",
        "scheduler",
        "sparsity",
        "target",
        "trainer",
    ],
    "fit": ["analysis", "coder", "data", "logger"],
    "evaluate": ["data"],
    "analyse": ["analysis"],
}


@pytest.mark.parametrize("name", GROUPS)
def test_help_lists_the_groups_of_the_command_and_all_their_options(cli: Cli, name: str) -> None:
    outcome = cli(f"sparse-ae-{name}", "--help")
    assert (outcome.code, outcome.err) == (0, "")
    text = outcome.out.partition("groups and their options")[2].partition("keys and their values")[0]
    listed = dict(re.findall(r"^  (\S+) +(.+)$", text, flags=re.MULTILINE))
    launchers = listed.pop("hydra/launcher", None)
    assert listed == {group: ", ".join(_files(group)) for group in GROUPS[name]}
    assert (launchers is not None) == (name in ("train", "fit"))
    assert launchers is None or {"local", "basic", *_files("hydra/launcher")} <= {*launchers.split(", ")}


@pytest.mark.parametrize("name", GROUPS)
def test_every_option_that_is_offered_composes_and_fits_its_constructor(name: str) -> None:
    """All options of lists at once, and the first options of all other groups, then the second ones, and so on."""
    with composing():
        offered = {group: options(group) for group in groups(compose(name, [])) if group != "experiment"}
        offered |= {f"hydra/{group}": options(f"hydra/{group}") for group in OF_HYDRA if name in ("train", "fit")}
        assert all(offered.values())
        for group in offered.keys() & OF_SEVERAL:
            offered[group] = [f"[{','.join(offered[group])}]"]
        for row in zip_longest(*offered.values()):
            chosen = {group: option for group, option in zip(offered, row, strict=True) if option is not None}
            seed = ["seed=1"] if name == "evaluate" else []  # which it takes from the run
            plain = task_config(compose(name, [*seed, *(f"{group}={option}" for group, option in chosen.items())]))
            for group in chosen.keys() & plain.keys():
                for spec in filter(None, plain[group].values() if group in OF_SEVERAL else [plain[group]]):
                    arguments = {key: value for key, value in spec.items() if key not in ("_target_", "_partial_")}
                    check_arguments(locate(spec["_target_"], group), arguments, group, partial=True)


def test_a_launcher_is_offered_where_its_plugin_is_installed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for plugin in ("submitit_slurm.yaml", "submitit_local.yaml"):
        monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["launcher"], plugin)
    for launcher in ("slurm", "submitit_slurm"):
        error = cli("sparse-ae-train", "-m", f"hydra/launcher={launcher}").err.partition("error: ")[2]
        reason, _, expected = error.partition(" (expected ")
        assert reason == f"hydra/launcher={launcher}: no such option; pip install 'sparse-ae[slurm]' brings it"
        assert "slurm" not in expected


def test_every_experiment_that_is_offered_has_jobs() -> None:
    with composing():
        for experiment in options("experiment"):
            config = compose("train", [f"experiment={experiment}"])
            assert list_jobs(config, [f"experiment={experiment}"])


def test_every_launcher_that_is_offered_can_be_made(tmp_path_factory: pytest.TempPathFactory) -> None:
    stop_file = tmp_path_factory.mktemp("sweep") / "stop"
    with composing():
        for launcher in options("hydra/launcher"):
            config = compose("train", [f"hydra/launcher={launcher}", "hydra.mode=MULTIRUN"])
            if launcher != "local":
                plugin_launcher("sparse_ae.jobs.autoencoder:AutoencoderJob", config, stop_file)


@pytest.mark.parametrize("name", GROUPS)
def test_a_wrong_option_is_told_all_that_are_offered(cli: Cli, name: str) -> None:
    required = ["run=x"] if name in ("evaluate", "analyse") else []
    wrong = {group: f"[{group}_]" if group in OF_SEVERAL else f"{group}_" for group in GROUPS[name]}
    outcome = cli(f"sparse-ae-{name}", *required, *(f"{group}={option}" for group, option in wrong.items()))
    assert outcome.code == 1
    told = dict(re.findall(r"error: (\w+)=\w+: no such option.* \(expected (.*)\)$", outcome.err, flags=re.MULTILINE))
    assert told == {group: ", ".join(_files(group)) for group in GROUPS[name]}


def _files(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))
