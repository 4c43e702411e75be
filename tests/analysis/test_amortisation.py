"""The amortisation gap against scikit-learn's pursuit and numpy's least squares."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import orthogonal_mp

from sparse_ae.analysis import amortisation
from sparse_ae.analysis.codes import Codes
from sparse_ae.plotting.style import to_png
from tests.analysis.subjects import subject_of

OPTIONS = {"n_samples": 1000, "selection": "correlation", "timed_seconds": 0.01, "n_images": 3}


def _codes(samples: int = 40, units: int = 9) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(samples, units, generator=generator).clamp_min(0.5) - 0.5


def test_numbers_against_references() -> None:
    z = _codes()
    z[5] = 0
    subject = subject_of(z, torch.randn(9, 16, generator=torch.Generator().manual_seed(1)))
    mean = torch.rand(50, 16)
    subject.sample = subject.sample._replace(train_rows=lambda: mean)
    result = amortisation.analyse(subject, **OPTIONS)
    x, atoms, codes = (each.double().numpy() for each in (subject.x, subject.atoms, z))
    variance = np.square(x - mean.double().numpy().mean(axis=0)).sum()
    own = np.square(x - codes @ atoms).sum()
    refitted = 0.0
    for row, image in zip(codes, x, strict=True):
        used = atoms[row != 0]
        refitted += np.square(image - np.linalg.lstsq(used.T, image, rcond=None)[0] @ used).sum()
    k = round(float((codes != 0).sum(axis=1).mean()))
    lengths = np.linalg.norm(atoms, axis=1, keepdims=True)
    searched = orthogonal_mp((atoms / lengths).T, x.T, n_nonzero_coefs=k).T
    omp = np.square(x - searched @ (atoms / lengths)).sum()
    numbers = result.numbers
    assert list(result.labels) == ["fvu", "omp_fvu", "gap", "encode_seconds"]
    assert numbers["fvu"] == pytest.approx(own / variance, rel=1e-5)
    assert numbers["refitted_fvu"] == pytest.approx(refitted / variance, rel=1e-5)
    assert numbers["omp_fvu"] == pytest.approx(omp / variance, rel=1e-4)
    assert numbers["gap"] == pytest.approx((own - omp) / variance, rel=1e-4)
    assert numbers["coefficient_gap"] + numbers["support_gap"] == pytest.approx(numbers["gap"])
    shared = ((searched != 0) & (codes != 0)).sum() / (searched != 0).sum()
    assert numbers["shared_support"] == pytest.approx(shared)
    assert numbers["l0"] == pytest.approx((codes != 0).sum(axis=1).mean())
    assert numbers["encode_seconds"] > 0
    assert result.arrays["error"].shape == (3, 40)
    for figure in result.figures.values():
        assert to_png(figure).startswith(b"\x89PNG")


def test_codes_that_could_not_be_better_have_no_gap() -> None:
    generator = torch.Generator().manual_seed(0)
    atoms = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0][:8]
    z = torch.zeros(30, 8).scatter_(1, torch.rand(30, 8, generator=generator).topk(3).indices, 1.5)
    numbers = amortisation.analyse(subject_of(z, atoms, x=z @ atoms), **OPTIONS).numbers
    assert numbers["gap"] == pytest.approx(0, abs=1e-6)
    assert numbers["shared_support"] == 1


def test_atoms_that_are_alike_are_refitted_too() -> None:
    atoms = torch.rand(1, 16).expand(4, 16)
    z = torch.ones(6, 4)
    x = torch.rand(6, 16)
    refitted = amortisation.refit(x, Codes.of([z]), atoms).rows(slice(None))
    assert refitted.isfinite().all()
    torch.testing.assert_close(refitted @ atoms, (x @ atoms.T)[:, :1] / atoms[0].square().sum() * atoms[:1])


def test_dead_units_and_empty_codes() -> None:
    atoms = torch.rand(5, 16)
    atoms[2] = 0
    numbers = amortisation.analyse(subject_of(torch.zeros(10, 5), atoms), **OPTIONS).numbers
    assert numbers["l0"] == 0
    assert numbers["omp_l0"] == 1
    assert numbers["refitted_fvu"] == pytest.approx(numbers["fvu"])


def test_what_is_no_sparse_code_and_no_dictionary() -> None:
    with pytest.raises(ValueError, match=r"^a sample has 300 codes != 0 \(expected up to 256\)$"):
        amortisation.analyse(subject_of(torch.ones(4, 300)), **OPTIONS)
    subject = subject_of(_codes())
    subject.coder.decode = lambda z: (z @ subject.atoms).sigmoid()
    with pytest.raises(ValueError, match=r"^the decoder is not a dictionary \(expected a run with a linear decoder\)$"):
        amortisation.analyse(subject, **OPTIONS)
