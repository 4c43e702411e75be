"""Everything a user can get wrong: one clear line that names it, exit code 1, nothing written."""

import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch

from sparse_ae.run.directory import Run
from tests.helpers import SMALL, Cli

TOGETHER = [
    # unknown keys and options
    {
        "sparsity.rhoo=0.1": r"sparsity\.rhoo=0\.1: no such key in sparsity; did you mean rho\?.*\(expected coef",
        "sparsiti=l1": r"sparsiti=l1: no such key; did you mean sparsity\?",
        "sparsity=l2": r"sparsity=l2: no such option; did you mean l1\? \(expected batch_topk, gated, hoyer, ",
        "model=mlpp": r"model=mlpp: no such option; did you mean mlp\? \(expected linear, lista, matching_pursuit",
        "experiment=defualt": r"experiment=defualt: no such option; did you mean default\?",
        "analysis=[sparsty]": r"analysis=sparsty: no such option; did you mean sparsity\?",
        "logger=[csv,neptune]": r"logger=neptune: no such option \(expected csv, mlflow, tensorboard, wandb\)",
        "callbacks=[early_stoping]": r"callbacks=early_stoping: no such option; did you mean early_stopping\?",
        "trainer.max_epoch=3": r"trainer\.max_epoch=3: no such key in trainer; did you mean max_epochs\?",
        "seed=1,2": r"seed=1,2: several values; a sweep needs -m, or sparse_ae\.sweep, and a list is written \[a,b\]",
        "latent_dim=256": r"latent_dim=256: no such key; did you mean model\.latent_dim\?",
        "data=null": r"data=null: no such option \(expected activations, .*, natural_patches\b",
    },
    # wrong types and values out of range
    {
        "optimizer.lr=fast": r"optimizer\.lr=fast: should be a valid number, unable to parse string as a number\n",
        "model.latent_dim=many": r"model\.latent_dim=many: should be a valid integer",
        "model.hidden_sizes=[256,0]": r"model\.hidden_sizes=\[256, 0\]: should be greater than 0",
        "sparsity.coefficient=-1": r"sparsity\.coefficient=-1: should be greater than or equal to 0",
        "dead.window_epochs=inf": r"dead\.window_epochs=inf: should be a finite number",
        "sparsity.rho=0": r"sparsity\.rho=0: should be greater than 0",
        "sparsity.reduction=median": r"sparsity\.reduction=median: should be 'mean' or 'sum'",
        "sparsity.warmup_steps=-3": r"sparsity\.warmup_steps=-3: should be greater than or equal to 0",
        "data.batch_size=0": r"data\.batch_size=0: should be greater than 0",
        "resume=1": r"resume=1: should be a valid",
        "active_threshold=high": r"active_threshold=high: should be a valid number",
        "rerun=maybe": r"rerun=maybe: should be 'all', 'failed' or 'none'",
        "visuals.every_n_epochs=0": r"visuals\.every_n_epochs=0: should be greater than 0",
        "trainer.max_epochs=soon": r"trainer\.max_epochs=soon: should be a valid integer",
        "trainer.precision=99": r"trainer\.precision=99: should be 64, 32 or 16",
        "threads=0": r"threads=0: should be greater than 0",
        "checkpoint.every_n_minutes=0": r"checkpoint\.every_n_minutes=0: should be greater than 0",
        "seed=-1": r"seed=-1: should be greater than or equal to 0",
        "fail_fast=soon": r"fail_fast=soon: should be a valid boolean",
    },
    {
        "model.latent_dim=0": r"model\.latent_dim=0: should be greater than 0",
        "sparsity.coefficient=nan": r"sparsity\.coefficient=nan: should be a finite number",
        "sparsity.rho=1": r"sparsity\.rho=1: should be less than 1",
        "seed=5000000000": r"seed=5000000000: should be less than 4294967296",
    },
    {
        "sparsity.coefficient=strong": r"sparsity\.coefficient=strong: should be a valid number",
        "seed=lucky": r"seed=lucky: should be a valid integer",
    },
    # what only a constructor can object to
    {
        "trainer.accelerator=tpu": r"trainer\.accelerator=tpu: not available on this machine",
        "data.device=abacus": r"data\.device=abacus: not usable here",
        "checkpoint.monitor=val/nothing": r"checkpoint\.monitor=val/nothing: not a validation metric \(expected val/",
        "trainer.accumulate_grad_batches=0": r"trainer\.accumulate_grad_batches=0: should be greater than 0",
        "trainer.check_val_every_n_epoch=0": r"trainer\.check_val_every_n_epoch=0: should be greater than 0",
        "optimizer.lr=-1": r"optimizer: Invalid learning rate: -1",
    },
    {
        "data.val_size=60000": r"data\.val_size=60000: leaves no training rows \(expected 0 to 59999\)",
        "trainer.accelerator=abacus": r"trainer\.accelerator=abacus: not an .*\(expected auto, cpu(, cuda, gpu)?\)",
    },
    {
        "trainer.limit_train_batches=-5": r"trainer\.limit_train_batches=-5: .*-5 for limit_train_batches",
        "trainer.strategy=abc": r"trainer\.strategy=abc: .*invalid strategy",
        "data.batch_size=55001": r"data\.batch_size=55001: larger than the data \(expected 1 to 55000\)",
        "trainer.max_epochs=-7": r"trainer\.max_epochs=-7: .*must be a non-negative integer or -1",
    },
]
"""Mistakes that one command tells together, a line each."""

TRAIN = [
    # unknown keys and groups, with the nearest right name
    (["analysis=[probe]", "analysis.probe.c=[-1]"], r"analysis\.probe\.c=\[-1\]: should be greater than 0"),
    (["+analysis.foo=3"], r"analysis\.foo=3: not a group of options"),
    (["analysis=[probe]", "+analysis.probe.cs=[1]"], r"analysis\.probe\.cs: no such key; did you mean c\?"),
    (
        ["+sparsity.bandwidth=3"],
        r"sparsity\.bandwidth: no such key.* \(expected coefficient, reduction, rho, warmup_steps\)",
    ),
    (["+trainer.max_tim=3"], r"trainer\.max_tim: no such key; did you mean max_time\?"),
    (["+nonsense=3"], r"nonsense: no such key"),
    (["+sparsty.rho=0.3"], r"sparsty: no such key; did you mean sparsity\?"),
    (["visuals=null"], r"visuals=null: not a group of options"),
    (["~scheduler"], r"~scheduler: cannot be left out \(expected cosine, none, "),
    (["~experiment"], r"~experiment: cannot be left out \(expected "),
    (["~analysis"], r"~analysis: cannot be left out \(expected "),
    (["~threads"], r"~threads: Could not delete"),
    (["+trainer.logger=false"], r"trainer\.logger: is set by the framework"),
    (["--config-dir", "nowhere"], r"--config-dir nowhere: no such folder"),
    (["nonsense"], r"nonsense: not a valid override \(expected key=value or group=option\)"),
    (["hydra.run.dirr=x"], r"hydra\.run\.dirr=x: no such key in hydra\.run; did you mean dir\?"),
    (["sparsity=l1,kl"], r"sparsity=l1,kl: several values; a sweep needs -m"),
    (["--sparsity", "l1"], r"--sparsity: not a flag of this command \(expected key=value, group=option, -m, "),
    (["-m", "--cfg", "job"], r"--cfg: cannot be combined with -m"),
    (["--cfg", "jb"], r"argument -c/--cfg: invalid choice: 'jb'"),
    (["--cfg", "job", "--package", "modl"], r"--package=modl: no such key"),
    (["--resolve"], r"--resolve: belongs to --cfg"),
    (["--hydra-help"], r"--hydra-help: not a flag of this command"),
    (["-sc", "install=tcsh"], r"--shell-completion=install=tcsh: not a way to complete \(expected install=SHELL"),
    (["--run"], r"--run: not a flag of this command"),
    (["--cfg", "job", "foo=1"], r"foo=1: no such key"),
    # wrong types and values out of range
    (["sparsity=jumprelu", "sparsity.theta=inf"], r"sparsity\.theta=inf: should be a finite number"),
    (["sparsity=l1", "sparsity.atom_norm=true"], r"sparsity: L1 .* MLP has none \(expected model=linear\)"),
    (
        ["model=linear", "model.b_pre=median"],
        r"model\.b_pre=median: should be 'zeros', 'mean' or 'geometric_median'",
    ),
    # methods, targets and dead units
    (
        ["sparsity=topk", "sparsity.k=500"],
        r"sparsity\.k=500: not a number of units \(expected 1 to model\.latent_dim=128",
    ),
    (["sparsity=topk", "sparsity.k=0"], r"sparsity\.k=0: not a number of units"),
    (["sparsity=topk", "sparsity.k=2.5"], r"sparsity\.k=2\.5: should be a valid integer"),
    (["sparsity=matryoshka", "sparsity.widths=[64,32]"], r"sparsity\.widths=\[64, 32\]: not nested prefixes"),
    (["sparsity=jumprelu", "sparsity.bandwidth=0"], r"sparsity\.bandwidth=0: should be greater than 0"),
    (["sparsity=jumprelu", "sparsity.l0_target=200"], r"sparsity\.l0_target=200: more than model\.latent_dim=128"),
    (["sparsity=wta", "sparsity.share=2"], r"sparsity\.share=2: should be less than or equal to 1"),
    (["sparsity=wta", "sparsity.encode=soft"], r"sparsity\.encode=soft: should be 'threshold' or 'relu'"),
    (["target=l0"], r"target: KL's codes are never exactly 0, .* \(expected target=population\)"),
    (["sparsity=l1", "target=l0", "target.value=300"], r"target\.value=300: more active units than"),
    (["sparsity=l1", "target=l0", "target.value=0"], r"target\.value=0: should be greater than 0"),
    (["sparsity=topk", "target=l0", "target.value=2.5"], r"target\.value=2\.5: not a whole number of units"),
    (
        ["experiment=methods", "sparsity=none", "target=none"],
        r"target\.start=0\.01: the chosen target has no options; choose another target=",
    ),
    (["+scheduler.lr=3"], r"scheduler\.lr=3: the chosen scheduler has no options"),
    (["sparsity=none", "target=l0"], r"target\.value=32: NoSparsity has no sparsity to set; choose another"),
    (["sparsity=topk", "target=coefficient_path"], r"target: TopK has no coefficient to steer"),
    (["sparsity=l1", "target=population", "target.value=3"], r"target\.value=3.*: population_sparsity is a share"),
    (["sparsity=l1", "target=l0", "data.val_size=0"], r"data\.val_size=0: a target is met on the validation split"),
    (["sparsity=l1", "target=l0", "sparsity.warmup_steps=9"], r"sparsity\.warmup_steps=9: the target steers"),
    (["dead=auxk"], r"dead: AuxK works on the atoms of a linear decoder, and MLP has none \(expected dead=none"),
    (["model=linear", "dead=resample", "dead.every_epochs=0"], r"dead\.every_epochs=0: should be greater than 0"),
    (["sparsity=l1", "target=l0", "trainer.limit_val_batches=0"], r"trainer\.limit_val_batches=0: a target is met on"),
    (["sparsity=topk", "target=l0", "model.latent_dim=abc"], r"model\.latent_dim=abc: should be a valid integer"),
    (["sparsity=batch_topk", "trainer.precision=bf16-true"], r"trainer\.precision=bf16-true: .*threshold"),
    (["sparsity=l1", "target=l0", "trainer.precision=bf16-true"], r"trainer\.precision=bf16-true: the steps of a"),
    (["sparsity=batch_topk", "+sparsity.coefficients={a: 1}"], r"sparsity\.coefficients: no such key"),
    (["sparsity=k_sparse", "trainer.max_epochs=-1"], r"trainer\.max_epochs=-1: a schedule over a share"),
    (["sparsity=jumprelu", "sparsity.l0_target=9", "target=l0"], r"sparsity\.l0_target=9: a target already"),
    (["model=lista", "model.refine_steps=2"], r"model\.refine_steps=2: would take KL's codes out of their range"),
    (["data.shift=28"], r"data\.shift=28: as large as an image \(expected 0 to 27\)"),
    (["model=lista", "model.steps=0"], r"model\.steps=0: should be greater than 0"),
    (
        ["data.shift=1", "data.transforms=[{_target_: torchvision.transforms.v2.Identity}]"],
        r"data\.shift=1: transforms are there already",
    ),
    (["resume=false"], r"resume=false: a run that has begun is resumed; rerun=all starts it over"),
    (
        ["scheduler=cosine", "scheduler.final_share=2"],
        r"scheduler\.final_share=2: should be less than or equal to 1",
    ),
    (["trainer.accelerator=cpu", "trainer.devices=abc"], r"trainer\.devices=abc: .* should be an int > 0"),
    (["trainer.accelerator=cpu", "trainer.devices=0"], r"trainer\.devices=0: .*should be an int > 0"),
    (["+trainer.val_check_interval=0"], r"trainer\.val_check_interval=0: should be greater than 0"),
    (["model.latent_dim=1000000000"], r"model\.latent_dim=1000000000: takes at least 1,911 GiB of memory, and \d"),
    (["model.latent_dim=1" + 21 * "0"], r"model\.latent_dim=10+: takes at least"),
    (["model.hidden_sizes=[8,1000000000000]"], r"model\.hidden_sizes=\[8, 1000000000000\]: takes at least"),
    # files and folders
    (["resume=nowhere.ckpt"], r"resume=nowhere\.ckpt: no such checkpoint"),
    (["resume=out/lr=0.1/last.ckpt"], r"resume=out/lr=0\.1/last\.ckpt: no such checkpoint"),
    (["hydra/launcher=locl"], r"hydra/launcher=locl: no such option; did you mean local\?"),
    # Hydra's own settings
    (["hydra/launcher=ray_aws"], r"hydra/launcher=ray_aws: no such option"),
    (["hydra/sweeper=basic"], r"hydra/sweeper=basic: no such option \(expected grid, search\)"),
    (["hydra/callbacks=x"], r"hydra/callbacks=x: no such group of options \(expected data, "),
    (["hydra=config"], r"hydra=config: "),
    (["hydra.run.dir=null"], r"hydra\.run\.dir=null: cannot be null"),
    (["hydra.run.dir="], r"hydra\.run\.dir=: names no folder"),
    (["hydra.run.dir=${nothing}"], r"hydra\.run\.dir: Interpolation key 'nothing' not found"),
    (["hydra.mode=foo"], r"hydra\.mode=foo: Invalid value 'foo', expected one of \[RUN, MULTIRUN\]"),
    (["hydra.job.chdir=maybe"], r"hydra\.job\.chdir=maybe: "),
    (["hydra.job.env_copy=[NOT_THERE]"], r"hydra\.job\.env_copy=\[NOT_THERE\]: KeyError: 'NOT_THERE'"),
    (["hydra.searchpath=5"], r"hydra\.searchpath=5: "),
    (["sparsity.rho=${nothing}"], r"sparsity\.rho: Interpolation key 'nothing' not found"),
    (["sparsity.rho=${oc.env:NOT_THERE}"], r"sparsity\.rho: .*NOT_THERE"),
    (["~model"], r"~model: cannot be left out \(expected linear, "),
    (["+hydra.callbacks.a._target_=no.such"], r"hydra\.callbacks: Error loading 'no\.such'"),
    (["hydra.callbacks={a: {_target_: b.c}}"], r"hydra\.callbacks=.*: Key 'a' is not in struct"),
    (["target=l0", "target.measure=5"], r"target\.measure=5: should be 'l0', "),
    (["experiment=[default,grid]"], r"experiment=\['default', 'grid'\]: several options of a group that has one"),
    (["+experiment=grid"], r"\+experiment=grid: Multiple values"),
    (["+seed=3"], r"\+seed=3: Could not append"),
    # folders whose names mean something in Hydra's grammar
    (["hydra.run.dir=a,b"], r"hydra\.run\.dir=a,b: several values; .*, a text 'hydra\.run\.dir=\"a,b\"'"),
    (["hydra.run.dir=a=1,b=2"], r".*: several values; .*, a text 'hydra\.run\.dir=\"a=1,b=2\"'"),
    (["hydra.run.dir=a=1, b=2"], r".*: several values; .*, a text 'hydra\.run\.dir=\"a=1, b=2\"'"),
    (["data=images", "data.size=[8,8]", "data.path=2024"], r"data\.path=2024: no such folder"),
    (["data=images", "data.size=[8,8]", "data.path=true"], r"data\.path=true: no such folder"),
    (["data=images", "data.path=[1]"], r"data\.path=\[1\]: should be a valid string"),
    (
        ["hydra.run.dir=a (1)"],
        r"hydra\.run\.dir=a \(1\): not a valid .* a text is written 'hydra\.run\.dir=\"a \(1\)\"'",
    ),
]


def _check_refused(cli: Cli, tmp_path: Path, command: str, arguments: list[str], message: str) -> None:

    before = sorted(tmp_path.rglob("*"))
    outcome = cli(command, *arguments)
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1, outcome.err
    assert re.match(rf"{command}: error: {message}", outcome.err), outcome.err
    assert outcome.out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("mistakes", TOGETHER, ids=lambda mistakes: next(iter(mistakes)))
def test_mistakes_of_one_command(cli: Cli, tmp_path: Path, mistakes: dict[str, str]) -> None:
    outcome = cli("sparse-ae-train", *mistakes)
    assert (outcome.code, outcome.out) == (1, "")
    told = outcome.err.splitlines(keepends=True)
    for message in mistakes.values():
        assert any(re.match(f"sparse-ae-train: error: {message}", line) for line in told), (message, outcome.err)
    assert len(told) == len(mistakes), outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"), TRAIN, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_train(cli: Cli, tmp_path: Path, arguments: list[str], message: str) -> None:
    _check_refused(cli, tmp_path, "sparse-ae-train", arguments, message)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("arguments", [["trainer=gpu"], ["data.device=cuda"]], ids=" ".join)
def test_a_gpu_that_is_not_there(cli: Cli, tmp_path: Path, arguments: list[str]) -> None:
    key = arguments[0].split("=")[0].split(".")[0]
    _check_refused(cli, tmp_path, "sparse-ae-train", arguments, rf"{key}.*expected")


def test_a_sweep_is_checked_too(cli: Cli, tmp_path: Path) -> None:
    arguments = ["-m", "seed=1,2", "sparsity.rho=3"]
    _check_refused(cli, tmp_path, "sparse-ae-train", arguments, r"sparsity\.rho=3: should be less than 1")


def test_all_mistakes_at_once(cli: Cli, tmp_path: Path) -> None:
    """One line for each: of the top level, of groups, of an analysis, of what only a constructor can object to."""
    wrong = ["sparsity=l1", "sparsity.coefficient=-1", "seed=-3", "model.latent_dim=0"]
    outcome = cli("sparse-ae-train", *wrong, "analysis=[features]", "analysis.features.n_features=-1")
    assert (outcome.code, outcome.out) == (1, "")
    told = [line.removeprefix("sparse-ae-train: error: ").split(":")[0] for line in outcome.err.splitlines()]
    assert told == ["seed=-3", "model.latent_dim=0", "sparsity.coefficient=-1", "analysis.features.n_features=-1"]
    outcome = cli("sparse-ae-train", "sparsity.rhoo=1", "modle=mlp")
    assert [line.split("error: ")[1].split(":")[0] for line in outcome.err.splitlines()] == [
        "sparsity.rhoo=1",
        "modle=mlp",
    ]
    of_parts = ["data.shift=28", "optimizer.lr=-1", "checkpoint.monitor=val/nothing", "trainer.accelerator=abacus"]
    outcome = cli("sparse-ae-train", *of_parts)
    told = [line.split("error: ")[1].split(":")[0] for line in outcome.err.splitlines()]
    assert told == [of_parts[0], "optimizer", *of_parts[2:]]
    of_trainer = ["accumulate_grad_batches=0", "devices=abc", "max_epochs=-7", "limit_train_batches=-5"]
    outcome = cli("sparse-ae-train", "data.shift=28", *(f"trainer.{option}" for option in of_trainer))
    told = [line.split("error: ")[1].split(":")[0] for line in outcome.err.splitlines()]
    assert told == ["data.shift=28", *(f"trainer.{option}" for option in of_trainer)]
    assert list(tmp_path.iterdir()) == []


def test_every_value_of_a_sweep_is_a_mistake(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("sparse-ae-train", "-m", "model.latent_dim=0,-1")
    assert outcome.code == 1
    assert [line.split("error: ")[1] for line in outcome.err.splitlines()] == [
        "model.latent_dim=0: should be greater than 0",
        "model.latent_dim=-1: should be greater than 0",
    ]
    outcome = cli("sparse-ae-train", "-m", "sparsity.rhoo=0.1,0.2")
    assert [line.split("error: ")[1].split(":")[0] for line in outcome.err.splitlines()] == [
        "sparsity.rhoo=0.1",
        "sparsity.rhoo=0.2",
    ]
    assert list(tmp_path.iterdir()) == []
    arguments = ["-m", "experiment=sparsity_weight_l1,overcmplete"]
    message = r"experiment=overcmplete: no such option; did you mean overcomplete\?"
    _check_refused(cli, tmp_path, "sparse-ae-train", arguments, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seed=1,2", "resume=nowhere.ckpt"], r"resume=nowhere\.ckpt: no such checkpoint"),
        (["seed=1,2", "hydra.launcher.n_jobs=0"], r"hydra\.launcher\.n_jobs=0: should be greater than 0"),
        (["seed=1,2", "hydra.launcher.n_jobs=abc"], r"hydra\.launcher\.n_jobs=abc: should be a valid integer"),
        (["seed=1,2", "hydra.launcher.pack=x"], r"hydra\.launcher\.pack=x: should be 'auto' or 'off'"),
        (
            ["seed=1,2", "hydra/launcher=slurm_local", "hydra.launcher.pack=0"],
            r"hydra\.launcher\.pack=0: should be 'auto' or 'off'; should be greater than 0",
        ),
        (
            ["seed=1,2", "hydra/launcher=slurm_local", "hydra.launcher.pack=auto"],
            r"hydra\.launcher\.pack=auto: a cluster's machines are not known, .* \(expected off or a number\)",
        ),
        (["seed=1,2", "+hydra.launcher.foo=3"], r"hydra\.launcher\.foo: no such key"),
        (["seed=1,2", "hydra/launcher=local,basic"], r"hydra/launcher=local,basic: a sweep has one value of it"),
        (["threads=1,2"], r"threads=1,2: a sweep has one value of it"),
        (["fail_fast=true,false"], r"fail_fast=true,false: a sweep has one value of it"),
        (["seed=1,2", "sparsity.coefficient=x"], r"sparsity\.coefficient=x: should be a valid number"),
        (["hydra.mode=RUN", "seed=-1,-1"], r"seed=-1: should be greater than or equal to 0"),
        (["sparsity=glob(l*)", "seed=-1"], r"seed=-1: should be greater than or equal to 0"),
        (["hydra/sweeper=basic", "seed=1"], r"hydra/sweeper=basic: no such option \(expected grid, search\)"),
        (["~hydra/sweeper", "seed=1"], r"~hydra/sweeper: cannot be left out \(expected grid, search\)"),
        (
            ["hydra.sweeper=null", "seed=1"],
            r"hydra\.sweeper\._target_=null: not supported \(expected hydra/sweeper=grid",
        ),
        (["~hydra/launcher", "seed=1"], r"~hydra/launcher: cannot be left out \(expected basic, local"),
        (["hydra.launcher=null", "seed=1"], r"hydra\.launcher: Hydra launcher is not configured\n"),
        (["hydra.sweep.dir=null", "seed=1"], r"hydra\.sweep\.dir=null: cannot be null"),
        (["hydra.sweep.dir=", "seed=1"], r"hydra\.sweep\.dir=: names no folder"),
        (["hydra.sweep.dir=${nothing}", "seed=1"], r"hydra\.sweep\.dir: Interpolation key 'nothing' not found"),
        (
            ["hydra.sweep.dir=a=1,b"],
            r"hydra\.sweep\.dir=.*: a sweep has one value of it .*'hydra\.sweep\.dir=\"a=1,b\"'",
        ),
        (["hydra.job.chdir=true", "seed=1"], r"hydra\.job\.chdir=true: has no effect on the jobs of a sweep"),
        (
            ["hydra.output_subdir=x", "seed=1"],
            r"hydra\.output_subdir=x: has no effect on the jobs .* \(expected null\)",
        ),
        (["+hydra.callbacks.a._target_=b", "seed=1"], r"hydra\.callbacks=.*: has no effect on the jobs"),
        (["hydra.sweep.dir=a, b", "seed=1"], r"hydra\.sweep\.dir=a, b: .*'hydra\.sweep\.dir=\"a, b\"'"),
        (["hydra.verbose=true", "seed=1"], r"hydra\.verbose=true: has no effect on the jobs of a sweep"),
        (["hydra/job_logging=stdout", "seed=1"], r"hydra/job_logging=stdout: each job of a sweep logs into its own"),
        (["+hydra.sweeper.params.seed=[]"], r"seed=\[\]: an axis without values"),
        (["+hydra.sweeper.params.threads=[1,2]"], r"threads=\[1, 2\]: a sweep has one value of it"),
        (
            ["+hydra.sweeper.params={hydra.launcher.n_jobs: 1}"],
            r"hydra\.launcher\.n_jobs=1: is of the sweep and not of",
        ),
        (["+hydra.sweeper.foo=3"], r"hydra\.sweeper\.foo: no such key"),
        (["+hydra.sweeper.params.seed='${nothing}'"], r"hydra\.sweeper\.params\.seed: Interpolation key 'nothing'"),
        (["resume=lr=0.1/a.ckpt"], r"resume=lr=0\.1/a\.ckpt: no such checkpoint"),
    ],
)
def test_mistakes_about_a_sweep_itself(cli: Cli, tmp_path: Path, arguments: list[str], message: str) -> None:
    _check_refused(cli, tmp_path, "sparse-ae-train", ["-m", *arguments], message)


def test_a_failed_run_that_is_left_alone_is_no_success(cli: Cli, tmp_path: Path, run_copy: Path) -> None:
    status = run_copy / "status.json"
    status.write_text(
        status.read_text().replace('"finished"', '"failed"', 1).replace('"error": null', '"error": "why"')
    )
    arguments = ["sparsity=l1", *SMALL, "hydra.run.dir=run", "rerun=none"]
    _check_refused(
        cli,
        tmp_path,
        "sparse-ae-train",
        arguments,
        r"run: failed: why; rerun=none leaves it, without that it is resumed",
    )


@pytest.mark.parametrize(
    "change", ["sparsity.coefficient=0.5", "optimizer=sgd", "optimizer.lr=0.5", "scheduler=cosine"]
)
def test_a_checkpoint_does_not_silently_replace_what_is_asked_for(
    cli: Cli, tmp_path: Path, finished_run: Path, change: str
) -> None:
    path = finished_run / "checkpoints" / "last.ckpt"
    message = r"resume=.*last\.ckpt: trained with (sparsity|optimizer|scheduler)\."
    _check_refused(cli, tmp_path, "sparse-ae-train", ["sparsity=l1", f"resume={path}", change], message)


def test_a_folder_that_holds_another_run(cli: Cli, tmp_path: Path, run_copy: Path) -> None:
    message = r"run: holds another run; rerun=all replaces it, another hydra\.run\.dir leaves it"
    _check_refused(cli, tmp_path, "sparse-ae-train", ["hydra.run.dir=run", "seed=7"], message)


def test_a_run_that_another_process_trains(cli: Cli, tmp_path: Path, run_copy: Path) -> None:
    status = run_copy / "status.json"
    status.write_text(status.read_text().replace('"finished"', '"running"', 1))
    message = r"run: is being trained by process \d+ on "
    with Run(run_copy).lock():
        _check_refused(cli, tmp_path, "sparse-ae-train", ["sparsity=l1", *SMALL, "hydra.run.dir=run"], message)


def test_a_run_that_cannot_be_locked(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "run" / ".lock").mkdir(parents=True)
    message = r"run/\.lock: cannot be locked \(Is a directory\) \(expected a file that you may write\)"
    _check_refused(cli, tmp_path, "sparse-ae-train", [*SMALL, "hydra.run.dir=run"], message)


@pytest.mark.parametrize("command", ["sparse-ae-evaluate", "sparse-ae-analyse"])
def test_a_run_someone_sent_cannot_run_code(cli: Cli, tmp_path: Path, run_copy: Path, command: str) -> None:
    config = run_copy / ".hydra" / "config.yaml"
    text = config.read_text()
    bomb = "[{_target_: os.mkdir, path: exploded}]"
    config.write_text(text.replace("transforms: []", f"transforms: {bomb}"))
    assert bomb in config.read_text()
    short = ["analysis=[overview]"] if command == "sparse-ae-analyse" else []
    assert cli(command, "run=run", *short).code == 0  # transforms are of training inputs: none is built
    config.write_text(text.replace("sparse_ae.data.MNIST", "os.mkdir"))
    _check_refused(
        cli, tmp_path, command, ["run=run"], r"run/\.hydra/config\.yaml: os\.mkdir is not a subclass of DataModule"
    )
    config.write_text(text.replace("root:", "extra: {_target_: os.mkdir, path: exploded}\n  root:"))
    _check_refused(cli, tmp_path, command, ["run=run"], r"run/\.hydra/config\.yaml: a _target_ inside another")
    assert not (tmp_path / "exploded").exists()


def test_a_folder_that_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    message = r"file/run: cannot be written \(Not a directory; choose a folder with write permission\)"
    _check_refused(cli, tmp_path, "sparse-ae-train", ["hydra.run.dir=file/run"], message)


class Bomb:
    """A pickle that writes a file when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("open('exploded', 'w').close()",))


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("no checkpoint")


def _bomb(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


def _zipped_bomb(path: Path) -> None:
    torch.save({"state_dict": Bomb()}, path)


def _foreign(path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, path)


@pytest.mark.parametrize("damage", [_truncated, _empty, _text, _bomb, _zipped_bomb, _foreign])
def test_checkpoints_that_cannot_be_trusted(cli: Cli, tmp_path: Path, finished_run: Path, damage: object) -> None:
    path = tmp_path / "damaged.ckpt"
    shutil.copy(finished_run / "checkpoints" / "last.ckpt", path)
    damage(path)
    message = r"resume=damaged\.ckpt: (is|not|cannot)"
    _check_refused(cli, tmp_path, "sparse-ae-train", ["resume=damaged.ckpt", "sparsity=l1"], message)


def test_a_checkpoint_of_another_model(cli: Cli, tmp_path: Path, finished_run: Path) -> None:
    shutil.copy(finished_run / "checkpoints" / "last.ckpt", tmp_path / "l1.ckpt")
    message = r"resume=l1\.ckpt: trained with model\.latent_dim=128, but 64 is asked for"
    _check_refused(cli, tmp_path, "sparse-ae-train", ["resume=l1.ckpt", "sparsity=l1", "model.latent_dim=64"], message)


EVALUATE = [
    ([], r"run: is required"),
    (["run="], r"run: is required"),
    (["run=nowhere"], r"run=nowhere: no such folder"),
    (["run=foreign"], r"run=foreign: not a run's folder"),
    (["run=out/a=1,b=(2)"], r"run=out/a=1,b=\(2\): no such folder"),
    (["run"], r"run: a folder without its key \(expected run=run\)"),
    (["run=run", "split=train"], r"split=train: should be 'val', 'test' or 'all'"),
    (
        ["run=run", "split=all"],
        r"split=all: the model was trained on some of the run's own data \(expected val or test",
    ),
    (["run=run", "weights=worst"], r"weights=worst: should be 'final' or 'best'"),
    (["run=run", "device=abacus"], r"device=abacus: not usable here"),
    (["run=run", "data=mnst"], r"data=mnst: no such option; did you mean mnist\?"),
    (["run=run", "slpit=val"], r"slpit=val: no such key; did you mean split\?"),
]
ANALYSE = [
    ([], r"run: is required"),
    (["run=nowhere"], r"run=nowhere: no such folder"),
    (["lr=0.1"], r"lr=0\.1: a folder without its key \(expected 'run=\"lr=0\.1\"'\)"),
    (["run=foreign"], r"run=foreign: holds no finished run"),
    (["run=run", "analysis=[sparsity,nothing]"], r"analysis=nothing: no such option"),
    (
        ["run=run", "analysis.features.n_features=0"],
        r"analysis\.features\.n_features=0: should be greater than 0",
    ),
    (["run=run", "active_threshold=-1"], r"active_threshold=-1: should be greater than or equal to 0"),
]


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [("sparse-ae-evaluate", *case) for case in EVALUATE] + [("sparse-ae-analyse", *case) for case in ANALYSE],
)
def test_evaluate_and_analyse(
    cli: Cli, tmp_path: Path, run_copy: Path, command: str, arguments: list[str], message: str
) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "lr=0.1").mkdir()
    _check_refused(cli, tmp_path, command, arguments, message)


REPORT = [
    ([], r"DIR: is required \(expected folders of runs"),
    (["-x"], r"unrecognized arguments: -x"),
    (["--into"], r"argument --into: expected one argument"),
    (["nowhere"], r"nowhere: no such folder"),
    (["lr=0.1,a (1)"], r"lr=0\.1,a \(1\): no such folder"),
    (["foreign"], r"foreign: holds no runs"),
    (["run"], r"run: is a run itself \(expected the folder it is in, or --into DIR\)"),
    ([".", "run"], r"--into: is required with several folders"),
    ([".", "nowhere", "--into", "both"], r"nowhere: no such folder"),
    ([".", "--into", "file/report"], r"file/report/report: cannot be written \(Not a directory"),
]


@pytest.mark.parametrize(("arguments", "message"), REPORT, ids=lambda value: " ".join(value) or "nothing")
def test_report(cli: Cli, tmp_path: Path, run_copy: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "file").write_text("no folder")
    _check_refused(cli, tmp_path, "sparse-ae-report", arguments, message)


def test_a_run_without_validation_has_no_val_split(cli: Cli, tmp_path: Path, run_copy: Path) -> None:
    config = run_copy / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("val_size: 5000", "val_size: 0"))
    _check_refused(
        cli,
        tmp_path,
        "sparse-ae-evaluate",
        ["run=run", "split=val"],
        r"split=val: MNIST has no such rows \(data\.val_size=0\)",
    )


def test_the_trace_comes_back_on_request(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match="latent_dim"):
        cli("sparse-ae-train", "model.latent_dim=0")


def test_a_schedule_without_a_step(cli: Cli, tmp_path: Path) -> None:
    arguments = ["scheduler=cosine", "trainer.max_epochs=0", "hydra.run.dir=run"]
    outcome = cli("sparse-ae-train", *SMALL[1:], *arguments)
    assert outcome.code == 1
    assert re.fullmatch(r"sparse-ae-train: error: trainer\.max_epochs=0: a schedule needs .*\n", outcome.err)


def test_divergence_is_one_line_and_the_run_is_marked_failed(cli: Cli, tmp_path: Path) -> None:

    outcome = cli(
        "sparse-ae-train",
        *SMALL,
        "sparsity=l1",
        "model=linear",
        "model.unit_norm=false",
        "optimizer.lr=1e30",
        "hydra.run.dir=run",
    )
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "at step" in outcome.err
    assert Run(tmp_path / "run").status.state == "failed"
