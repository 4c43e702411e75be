"""Analyses against NumPy, and on degenerate codes."""

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from sparse_ae.analysis import features, reconstructions, sparsity
from sparse_ae.plotting import feature_grid, to_png
from tests.analysis.subjects import subject_of


def _run(analysis: Any, z: torch.Tensor, atoms: torch.Tensor | None = None, **options: Any) -> Any:
    return analysis.analyse(subject_of(z, atoms), **options)


def test_sparsity_against_numpy_over_several_batches() -> None:
    torch.manual_seed(0)
    z = torch.relu(torch.randn(2500, 7) - 0.5)
    z[:, 3] = 0
    result = _run(sparsity, z)
    active = z.numpy() > 0.1
    assert result.numbers == {
        "samples": 2500,
        "units": 7,
        "threshold": 0.1,
        "population_sparsity": pytest.approx(active.mean(1).mean()),
        "lifetime_sparsity": pytest.approx(active.mean(0).mean()),
        "inactive_units": 1,
        "dead_units": 1,
        "code_max": z.max().item(),
    }
    panels = result.figures["sparsity"].axes
    heights = [sum(patch.get_data().values.sum() for patch in panel.patches) for panel in panels[:2]]
    assert heights == [2500, 7]  # each sample and each unit stands in exactly one bar


@pytest.mark.parametrize(
    "z", [torch.zeros(10, 4), torch.ones(10, 1), torch.full((1, 3), 0.5)], ids=["dead", "one", "constant"]
)
def test_degenerate_codes_are_drawn_too(z: torch.Tensor) -> None:
    for analysis, options in ((sparsity, {}), (features, {"n_features": 9}), (reconstructions, {"n_images": 9})):
        result = _run(analysis, z, **options)
        for figure in result.figures.values():
            assert to_png(figure).startswith(b"\x89PNG")


def test_features_numbers() -> None:
    atoms = torch.zeros(3, 16)
    atoms[0, 0], atoms[1, 1] = 2.0, 1.0
    atoms[2, :2] = 3.0
    result = _run(features, torch.ones(2, 3), atoms, n_features=2)
    assert result.numbers["units"] == 3
    assert result.numbers["shown"] == 2
    assert result.numbers["atom_norm"]["min"] == 1
    assert result.numbers["atom_norm"]["max"] == pytest.approx(18**0.5)
    assert result.numbers["coherence"] == pytest.approx(0.5**0.5)
    assert _run(features, torch.ones(2, 1), n_features=2).numbers["coherence"] is None


def test_signed_atoms_are_shown_symmetrically_around_zero() -> None:
    def sheet(figure: Figure) -> AxesImage:
        return figure.axes[0].images[0]

    images = np.zeros((2, 4, 4))
    images[0, 0, 0], images[0, 1, 1], images[1, 2, 2] = -4, 1, 0.5
    signed = sheet(feature_grid(images, ["0", "1"], title="signed"))
    assert signed.get_clim() == (-1, 1)
    np.testing.assert_array_equal(signed.get_array()[:4, :4], images[0] / 4)
    np.testing.assert_array_equal(signed.get_array()[:4, 5:9], images[1] / 0.5)
    assert signed.get_array().mask[:, 4].all()  # the gap
    grey = sheet(feature_grid(images + 4, ["0", "1"], title="grey"))
    assert grey.get_clim() == (0, 1)
    np.testing.assert_array_equal(grey.get_array()[:4, :4], (images[0] + 4) / 5)


def test_reconstructions_are_spread_over_the_classes_and_scored_one_by_one() -> None:
    torch.manual_seed(0)
    subject = subject_of(torch.rand(7, 3), label=torch.tensor([2, 0, 2, 2, 0, 1, 2]))
    chosen = [1, 4, 5, 0, 2]  # by hand: the first of 0, 1, 2, then the second of 0 and of 2; class by class
    result = reconstructions.analyse(subject, n_images=5)
    x = subject.sample.x
    errors = ((subject.z @ subject.atoms - x)[chosen] ** 2).mean(dim=1).tolist()
    assert result.numbers == {
        "index": chosen,
        "label": [0, 0, 1, 2, 2],
        "mse": pytest.approx(errors),
        "mean": pytest.approx(sum(errors) / 5),
        "best": pytest.approx(min(errors)),
        "worst": pytest.approx(max(errors)),
    }
    (axes,) = result.figures["reconstructions"].axes
    assert [text.get_text() for text in axes.texts] == [*(f"{error:.4f}" for error in errors), "input", "output"]
    sheet = axes.images[0].get_array()
    shown = [sheet[:4, start : start + 4] for start in range(0, 25, 5)]
    np.testing.assert_array_equal(np.stack(shown), x[chosen].reshape(5, 4, 4).numpy())
