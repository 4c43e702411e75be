"""The atoms that data were made from as a coder, and recovery of a run from its folder."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sparse_ae.config.errors import ConfigError
from sparse_ae.data import Synthetic
from sparse_ae.jobs.coder import CoderJob
from sparse_ae.jobs.true_atoms import TrueAtoms
from sparse_ae.reporting.compare import write_comparison
from sparse_ae.run.directory import Run
from tests.helpers import execute_run, plain_config

SMALL = ("data=synthetic", "data.dim=20", "data.n_true=30", "data.n=2000", "data.l0=2", "data.magnitudes=constant")


@pytest.mark.parametrize("normalize", ["none", "unit_interval", "center", "rms", "standardize", "whiten"])
def test_atoms_are_the_true_ones_on_every_scale(normalize: str, tmp_path: Path) -> None:
    data = Synthetic(dim=6, n_true=9, n=3000, l0=2.0, bias=3.0, root=str(tmp_path), normalize=normalize)
    data.prepare_data()
    learner = TrueAtoms(n_nonzero=6)
    learner.attach(data)
    coder = learner.fit(data.first("train", 10))
    coder.scale = data.scale
    truth = data.truth("test", 50)
    torch.testing.assert_close(coder.atoms.norm(dim=1), torch.ones(9))  # as with the atoms of other learners
    torch.testing.assert_close(F.normalize(coder.dictionary, dim=1), truth.atoms, atol=1e-4, rtol=0)
    x = data.split("test").rows.read(0, 50)
    torch.testing.assert_close(coder.decode(coder.encode(x)), x, atol=2e-3, rtol=0)  # six atoms span all of it
    torch.testing.assert_close(coder.decode(torch.zeros(1, 9))[0], truth.bias, atol=1e-4, rtol=0)


def test_runs_of_the_true_atoms_recover_them_and_are_compared(tmp_path: Path) -> None:
    for k in (1, 2):
        options = ("data.bias=1", "coder=true_atoms", f"coder.n_nonzero={k}", "analysis=[recovery]")
        run = execute_run(tmp_path / f"k{k}", plain_config(*SMALL, *options, name="fit"))
        numbers = run.read_analysis("recovery")
        assert numbers["mcc"] == pytest.approx(1, abs=1e-5)
        assert numbers["found_share"] == numbers["uniqueness"] == 1
        assert numbers["samples"] == 200
        assert run.units == 30
    arrays = np.load(run.path / "analysis" / "recovery" / "arrays.npz")
    truth = Synthetic(dim=20, n_true=30, n=2000, l0=2, magnitudes="constant", bias=1)
    torch.testing.assert_close(torch.from_numpy(arrays["true_atoms"]), truth.model.atoms)
    assert list(run.path.glob("events*"))  # TensorBoard has its figures
    written = write_comparison(tmp_path, ["recovery"])
    assert [path.name for path in written] == ["analysis.csv", "recovery.png"]
    with written[0].open() as table:
        f1 = [float(row["recovery/f1"]) for row in csv.DictReader(table)]
    assert f1[0] < f1[1]
    assert f1[1] > 0.8


def test_data_without_true_atoms_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        CoderJob(plain_config("coder=true_atoms", name="fit"), Run(tmp_path))
    assert str(error.value) == "coder: needs the true atoms, and the data have none (expected data=synthetic)"


@pytest.mark.parametrize(("name", "data"), [("recovery", "synthetic"), ("loss_recovered", "activations")])
def test_analyses_of_data_that_lack_what_they_need_are_refused_before_training(
    name: str, data: str, tmp_path: Path
) -> None:
    job = CoderJob(plain_config("coder=pca", f"analysis=[{name}]", name="fit"), Run(tmp_path))
    with pytest.raises(ConfigError, match=rf"^data: {name} needs .*, and the data have none \(expected data={data}\)$"):
        job.inspect()
    assert not list(tmp_path.iterdir())


def test_no_more_nonzeros_than_true_atoms(tmp_path: Path) -> None:
    message = r"^coder\.n_nonzero=32: more than there are atoms \(expected 1 to data\.n_true=30\)$"
    with pytest.raises(ConfigError, match=message):
        CoderJob(plain_config(*SMALL, "coder=true_atoms", name="fit"), Run(tmp_path))


def test_rows_are_not_read_to_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=10_000))
    with pytest.raises(ConfigError, match=r"^data: 2,000 training rows take"):
        CoderJob(
            plain_config(*SMALL, "coder=ksvd", "coder.n_nonzero=2", "coder.latent_dim=8", name="fit"), Run(tmp_path)
        )
    CoderJob(plain_config(*SMALL, "coder=true_atoms", "coder.n_nonzero=2", name="fit"), Run(tmp_path))
