"""Contexts of units, against loops over words, and as figures and data of a page."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sparse_ae.analysis import contexts, features, overview
from sparse_ae.plotting.style import to_png
from tests.analysis.texts import Words, on_text, random_words


def _codes(text: Words, units: int, *, signed: bool = False) -> Tensor:
    """Sparse codes with ties; unit 1 is dead, unit 2 is active on the last row alone."""
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(len(text.place), units, generator=generator).mul(2).round() / 2
    z = z if signed else torch.relu(z)
    z[:, 1:3] = 0
    z[-1, 2] = 3
    return z


@pytest.mark.parametrize("signed", [False, True])
def test_contexts_are_the_most_active_places_of_different_passages(
    signed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = random_words()
    z = _codes(text, 7, signed=signed)
    monkeypatch.setattr(contexts, "_MOST_UNITS", 3)  # units come in several parts
    units = torch.tensor([6, 0, 1, 2, 3, 4, 5])
    found = list(contexts.contexts_of(on_text(text, z), text, units, 5))
    assert [unit.unit for unit in found] == units.tolist()
    for unit in found:
        own = z[:, unit.unit].tolist()
        assert unit.frequency == pytest.approx(sum(abs(code) > 0.1 for code in own) / len(own))
        best: dict[int, int] = {}  # of each passage, its first row of the largest activity
        for row, (passage, _) in enumerate(text.place):
            if abs(own[row]) > (abs(own[best[passage]]) if passage in best else 0):
                best[passage] = row
        expected = sorted(best.values(), key=lambda row: -abs(own[row]))[:5]
        assert [abs(own[context.row]) for context in unit.contexts] == [abs(own[row]) for row in expected]
        assert {context.row for context in unit.contexts} <= set(best.values())
        assert unit.largest == (own[expected[0]] if expected else 0)
        for context in unit.contexts:
            assert context.window.pieces[context.window.marked].rows == (context.row,)
            assert context.codes == [own[piece.rows[0]] for piece in context.window.pieces]
    assert [len(unit.contexts) for unit in found if unit.unit in (1, 2)] == [0, 1]


def test_top_tokens_by_share_of_the_activity() -> None:
    text = Words("a b a c", "b c d")
    z = torch.tensor([[1.0, 0.05, -3, 0, 1, 0, 0]]).T
    (unit,) = contexts.contexts_of(on_text(text, z), text, torch.tensor([0]), 2)
    assert text.names(unit.tokens) == ["a", "b"]
    assert unit.shares == pytest.approx([4 / 5.05, 1.05 / 5.05])
    assert (unit.frequency, unit.largest) == (pytest.approx(3 / 7), -3)
    assert [(context.row, context.codes) for context in unit.contexts] == [
        (2, pytest.approx([1, 0.05, -3, 0])),
        (4, [1, 0, 0]),
    ]


def test_the_document_has_all_living_units_in_numbers_of_three_digits() -> None:
    text = Words("a </script> a c", "b c d")
    z = torch.zeros(7, 3)
    z[:, 0] = torch.tensor([1.23456, 0, 0, 2, 0, 12.3456, 0])
    z[1, 2] = -1
    document = contexts.document(on_text(text, z), text, 8)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    units, pieces = document.pop("units"), document.pop("pieces")
    assert document == {"rows": 7, "all_units": 3, "living_units": 2, "contexts_per_unit": 8, "threshold": 0.1}
    assert len(set(pieces)) == len(pieces)

    def spelled(unit: dict[str, Any]) -> list[Any]:
        shown = [
            ([pieces[i] for i in context["pieces"]], context["marked"], context["codes"])
            for context in unit["contexts"]
        ]
        return [unit["unit"], unit["frequency"], unit["largest"], [pieces[i] for i in unit["tokens"]], shown]

    first = ([" b", " c", " d"], 1, [0, 12.3, 0])
    second = ([" a", " </script>", " a", " c"], 3, [1.23, 0, 0, 2])
    assert spelled(units[0]) == [0, 0.429, 12.3, ["c", "a"], [first, second]]
    assert spelled(units[1]) == [2, 0.143, -1, ["</script>"], [([*second[0]], 1, [0, -1, 0, 0])]]
    assert units[0]["shares"] == [0.921, 0.0792]


def test_many_units_have_fewer_contexts_each(monkeypatch: pytest.MonkeyPatch) -> None:
    text = random_words()
    subject = on_text(text, _codes(text, 12))
    monkeypatch.setattr(contexts, "_MOST_WINDOWS", 25)
    document = contexts.document(subject, text, 8)
    assert (document["living_units"], document["contexts_per_unit"]) == (11, 2)
    assert max(len(unit["contexts"]) for unit in document["units"]) == 2
    monkeypatch.setattr(contexts, "_MOST_WINDOWS", 5)
    document = contexts.document(subject, text, 8)
    assert (document["living_units"], document["contexts_per_unit"]) == (11, 1)
    assert [unit["unit"] for unit in document["units"]] == [0, 2, 3, 4, 5]


def test_features_and_overview_show_contexts_in_place_of_pictures() -> None:
    text = random_words()
    z = _codes(text, 7)
    subject = on_text(text, z)
    found = features.analyse(subject, top_units=[0, 1, 2], top_images=3)
    assert set(found.figures) == {"contexts"}
    assert found.documents == {"units": contexts.document(subject, text, 3)}
    np.testing.assert_array_equal(found.arrays["top_tokens"], text.token[found.arrays["top_images"]])
    written = [shown.get_text() for axes in found.figures["contexts"].axes for shown in axes.texts]
    assert written[:3] == ["unit", "0:", "active"]
    assert "dead" in written
    assert overview.analyse(subject).figures.keys() == {"sparsity", "contexts"}
    assert overview.analyse(subject).documents["units"]["contexts_per_unit"] == 8


@pytest.mark.parametrize(
    "z", [torch.zeros(7, 3), torch.ones(7, 1), -torch.ones(7, 2)], ids=["dead", "constant", "negative"]
)
def test_degenerate_codes_are_drawn_too(z: Tensor) -> None:
    text = Words("a b a c", "b c d")
    for module in (features, overview):
        result = module.analyse(on_text(text, z))
        json.dumps(result.documents, allow_nan=False)
        for figure in result.figures.values():
            assert to_png(figure).startswith(b"\x89PNG")
            assert all(axes.has_data() or axes.texts for axes in figure.axes)
