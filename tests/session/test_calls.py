"""The commands as functions: runs as the command line makes them, mistakes as exceptions, a process left as it was."""

import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.datasets import load_digits

import sparse_ae
from sparse_ae.config.errors import UserError
from sparse_ae.session.memory import kept
from tests.helpers import ROOT, run_command

DIGITS = load_digits()
X = DIGITS.data[:600].astype(np.float32)
OPTIONS = ["model=linear", "model.latent_dim=16", "data.batch_size=64", "trainer.enable_progress_bar=false"]
TOPK = [*OPTIONS, "sparsity=topk", "sparsity.k=4"]
SHORT = [*TOPK, "trainer.max_epochs=2"]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> tuple[Path, sparse_ae.Run]:
    """A folder to work in, and the run that was trained there on data in memory."""
    folder = tmp_path_factory.mktemp("session")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, sparse_ae.train(*SHORT, data=X, labels=DIGITS.target[:600])


@pytest.fixture
def run(session: tuple[Path, sparse_ae.Run], monkeypatch: pytest.MonkeyPatch) -> sparse_ae.Run:
    folder, run = session
    monkeypatch.chdir(folder)
    return run


def test_the_run_is_that_of_the_command_line(run: sparse_ae.Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=X)  # another file with the same rows is another content
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", DIGITS.target[:600])
    own = [f"data.path={tmp_path}/x.npy", f"data.labels={tmp_path}/y.npy"]
    outcome = run_command(run.path.parents[2], "sparse-ae-train", "data=arrays", *own, *SHORT)
    assert outcome.code == 0, outcome.err
    assert f"{run.path.name}: already finished" in outcome.out


def test_a_finished_run_is_returned_at_once(run: sparse_ae.Run) -> None:
    before = run.status
    again = sparse_ae.train(*SHORT, data=torch.from_numpy(X), labels=torch.from_numpy(DIGITS.target[:600]))
    assert again.path == run.path
    assert again.status == before


def test_what_a_run_has(run: sparse_ae.Run) -> None:
    assert 3 < run.metrics["test/l0"] <= 4
    assert run.config["sparsity"]["k"] == 4
    assert run.model.encode(torch.from_numpy(X[:5])).shape == (5, 16)
    validated = run.history["val/mse"].dropna()
    assert list(validated.index) == [8, 16]
    assert validated.iloc[-1] == pytest.approx(run.metrics["val/mse"])
    assert [path.name for path in run.figures] == sorted(f"{name}.png" for name in run.analysis("overview").figures)
    assert sparse_ae.open(str(run.path)).metrics == run.metrics


def test_a_run_shows_itself(run: sparse_ae.Run, tmp_path: Path) -> None:
    assert repr(run).startswith("Run('outputs/default/topk-k4-n16-s42-")
    assert "FVU" in repr(run)
    html = run._repr_html_()
    assert html.count("<img") == 2  # curves and atoms
    assert "Hoyer sparseness" in html
    moved = sparse_ae.open(shutil.copytree(run.path, tmp_path / "<script>"))
    assert "<script>" not in moved._repr_html_()


def test_an_analysis_is_done_and_shown(run: sparse_ae.Run) -> None:
    with pytest.raises(UserError, match=r"analysis=selectivty: no such analysis; did you mean selectivity\?"):
        run.analysis("selectivty")
    with pytest.raises(UserError, match=r'analysis=selectivity: not done of this run; sparse_ae\.analyse\(run, "sel'):
        run.analysis("selectivity")
    found = sparse_ae.analyse(run, "selectivity", "analysis.selectivity.permutations=20").analysis("selectivity")
    assert found.numbers["classes"] == list(range(10))
    assert found.arrays["auroc"].shape == (16,)
    assert found.figures["auroc"]._repr_png_().startswith(b"\x89PNG")
    assert found._repr_html_().count("<img") == len(found.figures)


def test_frames_of_mixed_types_are_numbers(data_root: Path) -> None:
    """Those whose types allow missing values, too; classes keep their order."""
    frame = pd.DataFrame({"a": pd.array([3, 1, 2], "Int64"), "b": [True, False, True], "c": [0.5, 1.5, 2.5]})
    rows, labels = (np.load(text.partition("=")[2].strip('"')) for text in kept(frame, frame["a"])[1:])
    np.testing.assert_array_equal(rows, [[3, 1, 0.5], [1, 0, 1.5], [2, 1, 2.5]])
    assert labels.tolist() == [3, 1, 2]


def test_other_data_are_evaluated(run: sparse_ae.Run) -> None:
    x = DIGITS.data[600:700].astype(np.float32)
    found = sparse_ae.evaluate(run, "split=all", data=x)
    with torch.inference_mode():
        error = run.model.decode(run.model.encode(torch.from_numpy(x))).numpy().astype(float) - x
    assert found["Arrays/all/mse"] == pytest.approx((error**2).mean(), rel=1e-5)


def test_fit_and_the_table_of_runs(run: sparse_ae.Run) -> None:
    pca = sparse_ae.fit("coder=pca", "coder.latent_dim=4", data=X)
    table = sparse_ae.runs("outputs")
    assert set(table.index) == {run.path.name, pca.path.name}
    assert table.loc[run.path.name, "test/fvu"] == run.metrics["test/fvu"]
    assert list(table["state"]) == ["finished", "finished"]
    assert table["test/mse"].dtype == float


def test_the_process_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    request.addfinalizer(partial(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision()))
    torch.set_float32_matmul_precision("high")
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002, what is not to be changed
    torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    threads, denormal = torch.get_num_threads(), torch.tensor(1e-40)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):  # by which Lightning's seed_everything() seeds
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "level", logging.INFO)  # Lightning's own
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # which Lightning sets, and training takes away
    variables = {name: value for name, value in os.environ.items() if name.startswith("P")}
    sparse_ae.train(*SHORT, "analysis=[]", f"threads={threads + 1}", "matmul_precision=medium", data=X)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected  # noqa: NPY002
    assert torch.get_num_threads() == threads
    assert torch.get_float32_matmul_precision() == "high"
    assert (denormal * 1).item() != 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert Path.cwd() == tmp_path
    assert {name: value for name, value in os.environ.items() if name.startswith("P")} == variables
    assert logging.getLogger("lightning.pytorch").level == logging.INFO


def test_ctrl_c_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    long = [*TOPK, "trainer.max_epochs=3000", "analysis=[]", "visuals.every_n_epochs=3000"]
    timer = threading.Timer(4, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt, match=r"^stopped by Ctrl-C; the same call resumes it$"):
        sparse_ae.train(*long, data=X)
    (path,) = tmp_path.glob("outputs/default/*")
    stopped = sparse_ae.open(path)
    assert stopped.status.state == "interrupted"
    assert stopped.last_checkpoint.exists()


def test_another_thread_may_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found: list[sparse_ae.Run] = []
    thread = threading.Thread(target=lambda: found.append(sparse_ae.train(*SHORT, "analysis=[]", data=X)))
    thread.start()
    thread.join()
    assert 3 < found[0].metrics["test/l0"] <= 4


def test_hydra_may_be_in_use(run: sparse_ae.Run, tmp_path: Path) -> None:
    """A session inside a Hydra application of the user's leaves its state alone."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    (tmp_path / "mine.yaml").write_text("a: 1\n")
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        sparse_ae.train(*SHORT, data=X, labels=DIGITS.target[:600])
        assert GlobalHydra.instance().is_initialized()
        assert hydra.compose("mine").a == 1


WITH_NAN = X.copy()
WITH_NAN[3, 2] = np.nan
MISTAKES = [
    (["sparsity=l2"], {}, r"^sparsity=l2: no such option; did you mean l1\?"),
    (["sparsity=l1,kl"], {}, r"^sparsity=l1,kl: several values; a sweep needs -m, or sparse_ae\.sweep, and a list is"),
    ([{"sparsity": "l1"}], {}, r"^overrides=\{'sparsity': 'l1'\}: not a text \(expected overrides such as"),
    ([], {"data": WITH_NAN}, r"^data\.path: row \d+, column 2 of the training file is nan \(expected finite numbers\)"),
    ([], {"data": X[0]}, r"^data: 64 of float32 \(expected numbers \(n, D\), or images \(n, H, W\)\)"),
    ([], {"data": [["a", "b"]]}, r"^data: 1 x 2 of <U1 \(expected numbers"),
    ([], {"data": pd.DataFrame({"a": [1.0], "b": ["text"]})}, r"^data: column b holds no numbers \((object|str)\)"),
    (
        [],
        {"data": scipy.sparse.csr_matrix(X)},
        r"^data: a sparse matrix of 600 x 64 values \(expected data\.toarray\(\)",
    ),
    ([], {"data": torch.eye(3).to_sparse()}, r"^data: a sparse matrix of 3 x 3 values \(expected data\.to_dense\(\)"),
    ([], {"data": [[1.0, 2.0], [3.0]]}, r"^data: its parts differ in shape \(expected one array"),
    ([], {"data": np.ma.masked_less(X, 1)}, r"^data: an array with masked values \(expected data\.filled\(\.\.\.\)\)"),
    (
        [],
        {"data": pd.DataFrame({"a": pd.array([1, None] * 300, "Int64")})},
        r"^data\.path: row \d+, column 0 .* is nan",
    ),
    (["data=mnist"], {"data": X}, r"^data=mnist: given beside data in memory \(expected one of them\)"),
    ([], {"data": X[:2], "labels": ["a", None]}, r"^labels: row 1 has no class \(expected one class for each row\)"),
    ([], {"labels": [1, 2]}, r"^labels: classes of no data \(expected data too\)"),
    ([], {"data": X, "labels": DIGITS.target[:5]}, r"^data\.labels=.*: 5 values for 600 rows"),
    ([], {"data": X, "labels": X}, r"^labels: an array of 2 dimensions \(expected one class for each row\)"),
]


@pytest.mark.parametrize(("overrides", "given", "message"), MISTAKES, ids=[message[1:40] for _, _, message in MISTAKES])
def test_a_mistake_is_one_line_and_writes_nothing(
    overrides: list[str], given: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        sparse_ae.train(*overrides, **given)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", [sparse_ae.open, sparse_ae.runs, sparse_ae.analyse, sparse_ae.evaluate])
def test_a_folder_that_is_none(call: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"nowhere: no such folder"):
        call("nowhere")  # type: ignore[operator]


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, sparse_ae; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.slow
def test_a_script_without_a_main_guard_sweeps(tmp_path: Path, data_root: Path) -> None:
    """And a value that makes no run is told, while the others are trained."""
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np, sparse_ae\n"
        "print('once')\n"
        "x = np.random.default_rng(0).random((300, 8), dtype=np.float32)\n"
        f"options = {[*OPTIONS, 'trainer.max_epochs=1', 'analysis=[]']}\n"
        "print(len(sparse_ae.sweep(*options, 'sparsity=topk', 'sparsity.k=2,4', data=x)), 'runs')\n"
        "try:\n"
        "    sparse_ae.sweep(*options, 'sparsity=topk', 'sparsity.k=4,99', data=x)\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("once") == 1
    assert "2 runs" in done.stdout
    assert "1 of 2 runs are not finished: sparsity.k=99: sparsity.k=99: not a number of units" in done.stdout
