"""Gabor fits: known functions are recovered, noise, gratings and single pixels are not Gabor-like."""

import math

import numpy as np
import pytest
import torch

from sparse_ae.analysis import Result, gabor
from sparse_ae.analysis.gabor_fit import Gabors, fit_gabors
from sparse_ae.plotting.style import to_png
from tests.analysis.subjects import subject_of

SIDE = 10


def _gabors(n: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Pictures by hand, with y upwards, and their parameters."""
    generator = torch.Generator().manual_seed(0)

    def draw(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, generator=generator)

    x, y, orientation, frequency = draw(3, 6), draw(3, 6), draw(0, math.pi), draw(0.12, 0.35)
    across = draw(1.2, 2.0)
    along = across * draw(1.0, 1.25)
    up, right = y - torch.arange(SIDE)[:, None], torch.arange(SIDE)[None] - x
    v = right * orientation.cos() + up * orientation.sin()
    u = up * orientation.cos() - right * orientation.sin()
    envelope = torch.exp(-(u**2) / (2 * across**2) - v**2 / (2 * along**2))
    pictures = draw(0.1, 5) * envelope * torch.cos(2 * math.pi * frequency * u + draw(0, 2 * math.pi))
    true = {"x": x, "y": y, "orientation": orientation, "frequency": frequency, "across": across, "along": along}
    return pictures, {name: values.flatten() for name, values in true.items()}


@pytest.fixture(scope="module")
def known() -> tuple[torch.Tensor, dict[str, torch.Tensor], Gabors]:
    pictures, true = _gabors(40)
    return pictures, true, fit_gabors(pictures)


def test_known_functions_are_recovered(known: tuple[torch.Tensor, dict[str, torch.Tensor], Gabors]) -> None:
    pictures, true, found = known
    assert float(found.r2.min()) > 0.999
    assert torch.allclose(found.fit, pictures, atol=0.02 * float(pictures.abs().max()))
    turned = (found.orientation - true["orientation"] + math.pi / 2).remainder(math.pi) - math.pi / 2
    assert float(turned.abs().max()) < 0.02
    for name in ("x", "y"):
        assert float((getattr(found, name) - true[name]).abs().max()) < 0.1
    for name in ("frequency", "across", "along"):
        assert float((getattr(found, name) / true[name] - 1).abs().max()) < 0.05


def test_bandwidth_is_that_of_the_spectrum(known: tuple[torch.Tensor, dict[str, torch.Tensor], Gabors]) -> None:
    """Measured on the spectrum of exp(-u^2 / 2 s^2) exp(2 pi i f u), which is a Gaussian around f."""
    *_, found = known
    u = np.arange(-200, 200, 0.25)
    f = np.linspace(0, 2, 20001)
    for s, frequency, bandwidth in list(zip(found.across, found.frequency, found.bandwidth, strict=True))[:5]:
        spectrum = np.exp(-2 * np.pi**2 * float(s) ** 2 * (f - float(frequency)) ** 2)
        at = int(np.abs(f - float(frequency)).argmin())
        by_hand = np.exp(-(u**2) / (2 * float(s) ** 2)).sum() * 0.25
        assert by_hand == pytest.approx(float(s) * math.sqrt(2 * math.pi), rel=1e-6)
        if spectrum[0] > 0.5:
            assert math.isinf(float(bandwidth))
        else:
            low = f[:at][spectrum[:at] < 0.5].max()
            high = f[at:][spectrum[at:] < 0.5].min()
            assert float(bandwidth) == pytest.approx(math.log2(high / low), rel=0.01)


def _analyse(pictures: torch.Tensor, z: torch.Tensor | None = None, **options: int) -> Result:
    z = torch.ones(3, len(pictures)) if z is None else z
    x = torch.zeros(len(z), pictures[0].numel())
    subject = subject_of(z, pictures.flatten(1), x=x)
    subject.sample = subject.sample._replace(shape=(1, *pictures.shape[1:]))
    return gabor.analyse(subject, **options)  # type: ignore[arg-type]


def test_known_functions_among_others() -> None:
    """Three Gabor functions, a unit that is dead, a single pixel, a grating over all of the picture, and noise."""
    pictures, _ = _gabors(3)
    pixel = torch.zeros(1, SIDE, SIDE)
    pixel[0, 4, 5] = 1
    grating = torch.cos(2 * math.pi * 0.2 * torch.arange(SIDE)).expand(1, SIDE, SIDE)
    noise = torch.randn(1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    atoms = torch.cat([pictures, pictures[:1], pixel, grating, noise])
    z = torch.ones(3, len(atoms))
    z[:, 3] = 0
    result = _analyse(atoms, z)
    assert result.arrays["unit"].tolist() == [0, 1, 2, 4, 5, 6]
    assert result.numbers["units"] == 6
    assert result.numbers["gabor_share"] == pytest.approx(3 / 6)
    assert result.numbers["fitted_share"] == pytest.approx(5 / 6)
    assert result.numbers["random_gabor_share"] == 0
    assert result.numbers["random_median_r2"] < 0.4
    assert result.arrays["r2"][-1] < 0.4
    assert {to_png(figure)[:4] for figure in result.figures.values()} == {b"\x89PNG"}


def test_dead_units_alone_and_an_atom_of_zeros() -> None:
    pictures, _ = _gabors(2)
    dead = _analyse(pictures, torch.zeros(3, 2))
    assert dead.numbers["units"] == 0
    assert dead.numbers["gabor_share"] is None
    zeros = _analyse(torch.zeros(5, SIDE, SIDE), n_units=3)
    assert zeros.arrays["unit"].tolist() == [0, 2, 4]
    assert zeros.numbers["gabor_share"] == 0
    assert zeros.numbers["median_r2"] == 0
    for result in (dead, zeros):
        assert {to_png(figure)[:4] for figure in result.figures.values()} == {b"\x89PNG"}


def test_rows_that_are_no_images_and_coders_without_filters() -> None:
    subject = subject_of(torch.ones(2, 3))
    with pytest.raises(
        ValueError, match=r"^of=filters: a classical coder has no encoder filters \(expected contributions\)$"
    ):
        gabor.analyse(subject, of="filters")
    subject.sample = subject.sample._replace(shape=(16,))
    with pytest.raises(ValueError, match=r"^data\.input_shape: gabor fits images, and the rows are vectors"):
        gabor.analyse(subject)
