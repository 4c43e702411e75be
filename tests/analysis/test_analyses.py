"""Reconstructions by hand, and of degenerate codes."""

import numpy as np
import pytest
import torch

from sparse_ae.analysis import reconstructions
from sparse_ae.plotting.style import to_png
from tests.analysis.subjects import subject_of


@pytest.mark.parametrize(
    "z", [torch.zeros(10, 4), torch.ones(10, 1), torch.full((1, 3), 0.5)], ids=["dead", "one", "constant"]
)
def test_degenerate_codes_are_drawn_too(z: torch.Tensor) -> None:
    for figure in reconstructions.analyse(subject_of(z), n_images=9).figures.values():
        assert to_png(figure).startswith(b"\x89PNG")


def test_reconstructions_are_spread_over_the_classes_and_scored_one_by_one() -> None:
    torch.manual_seed(0)
    subject = subject_of(torch.rand(7, 3), label=torch.tensor([2, 0, 2, 2, 0, 1, 2]))
    chosen = [1, 4, 5, 0, 2]  # by hand: the first of 0, 1, 2, then the second of 0 and of 2; class by class
    result = reconstructions.analyse(subject, n_images=5)
    x = subject.sample.x
    errors = ((subject.codes.rows(slice(None)) @ subject.atoms - x)[chosen] ** 2).mean(dim=1).tolist()
    assert result.numbers == {
        "index": chosen,
        "label": [0, 0, 1, 2, 2],
        "mse": pytest.approx(errors),
        "mean": pytest.approx(sum(errors) / 5),
        "best": pytest.approx(min(errors)),
        "worst": pytest.approx(max(errors)),
    }
    (axes,) = result.figures["reconstructions"].axes
    assert [text.get_text() for text in axes.texts] == ["input", "output", *(f"{error:.4f}" for error in errors)]
    sheet = axes.images[0].get_array()
    shown = [sheet[:4, start : start + 4] for start in range(0, 25, 5)]
    np.testing.assert_array_equal(np.stack(shown), x[chosen].reshape(5, 4, 4).numpy())
