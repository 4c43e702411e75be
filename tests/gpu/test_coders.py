"""Classical coders on the device against the same coders on the CPU, in float64."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sparse_ae.coders import KSVD, OMP, PCA, DataAtoms, L1Coder, OnlineDictionaryLearning, RandomAtoms
from tests.helpers import execute_run, mnist, plain_config

pytestmark = pytest.mark.gpu

UNITS, K = 48, 5


@pytest.fixture(scope="module")
def x(data_root: Path) -> Tensor:
    """Images ``(400, 784)``, float64."""
    return mnist(device="cpu").first("train", 400).double()


@pytest.fixture(scope="module")
def atoms(x: Tensor) -> Tensor:
    """Unit-norm atoms ``(48, 784)``."""
    return DataAtoms(UNITS, K).fit(x).dictionary


def pursuit(selection: Any) -> Any:
    return lambda atoms: OMP(atoms, K, selection=selection)


CODERS = {
    "OMP by correlation": pursuit("correlation"),
    "OMP by error": pursuit("error"),
    "OMP to a tolerance": lambda atoms: OMP(atoms, tolerance=20.0),
    "FISTA": lambda atoms: L1Coder(atoms, penalty=0.5),
    "ISTA": lambda atoms: L1Coder(atoms, penalty=0.5, momentum=False, positive=True),
}


@pytest.mark.parametrize("name", CODERS)
def test_codes(x: Tensor, atoms: Tensor, device: str, name: str) -> None:
    expected = CODERS[name](atoms).encode(x)
    coder = CODERS[name](atoms.to(device))
    z = coder.encode(x.to(device))
    assert z.device.type == device
    torch.testing.assert_close(z.cpu(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(coder.decode(z).cpu(), expected @ atoms, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("maker", [RandomAtoms, DataAtoms, KSVD, OnlineDictionaryLearning], ids=lambda m: m.__name__)
def test_dictionaries(x: Tensor, device: str, maker: Any) -> None:
    expected, coder = maker(UNITS, K, seed=1).fit(x), maker(UNITS, K, seed=1).fit(x.to(device))
    assert coder.dictionary.device.type == device
    torch.testing.assert_close(coder.dictionary.cpu(), expected.dictionary, rtol=1e-6, atol=1e-6)
    z = coder.encode(x.to(device)).cpu()
    torch.testing.assert_close(z, expected.encode(x), rtol=1e-5, atol=1e-5)


def test_principal_components(x: Tensor, device: str) -> None:
    expected, coder = PCA(8).fit(x), PCA(8).fit(x.to(device))
    reconstructed = coder.decode(coder.encode(x.to(device))).cpu()
    torch.testing.assert_close(reconstructed, expected.decode(expected.encode(x)), rtol=1e-6, atol=1e-6)


def test_a_run(tmp_path: Path, device: str) -> None:
    few = ["data.val_size=59000", "analysis=[]", "threads=1", "coder.latent_dim=24", "coder.n_nonzero=3"]
    metrics = {}
    for where in dict.fromkeys(("cpu", device)):
        config = plain_config("coder=ksvd", "coder.epochs=2", *few, f"data.device={where}", name="fit")
        metrics[where] = execute_run(tmp_path / where, config).metrics
    assert metrics[device]["test/mse"] == pytest.approx(metrics["cpu"]["test/mse"], rel=0.02)
    assert metrics[device]["test/l0"] == pytest.approx(metrics["cpu"]["test/l0"], rel=0.02)
