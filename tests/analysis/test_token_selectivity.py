"""Selectivity for tokens against loops and SciPy's Fisher test."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import false_discovery_control, fisher_exact
from torch import Tensor

from sparse_ae.analysis import Result, contexts, selectivity
from sparse_ae.plotting.style import to_png
from tests.analysis.texts import Words, on_text, random_words


@pytest.fixture(scope="module")
def text() -> Words:
    return random_words(40)


def _codes(text: Words) -> Tensor:
    """Unit 0 is active on one word, unit 1 dead, unit 2 active once, unit 3 on some places of one word and others."""
    generator = torch.Generator().manual_seed(1)
    n, token = len(text.place), text.token
    z = torch.relu(torch.randn(n, 8, generator=generator) - 0.5)
    z[:, 0] = torch.where(token == 4, 2 + z[:, 0], 0.0)
    z[:, 1:4] = 0
    z[7, 2] = 1
    z[:, 3] = 3.0 * (token == 6) * (torch.arange(n) % 2) + 0.05 * (token == 2)
    return z


def _run(text: Words, z: Tensor, **options: Any) -> Result:
    return selectivity.analyse(on_text(text, z), **options)


def test_measures_of_each_unit(text: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "_MOST_UNITS", 3)  # units come in several parts
    z = _codes(text)
    found = _run(text, z * torch.tensor([1, 1, 1, 1, -1, 1, -1, 1]), n_tokens=4).arrays  # a code counts by its size
    token, count = text.token.tolist(), Counter(text.token.tolist())
    for i, own in enumerate(z.T.tolist()):
        total = Counter[int]()
        active = Counter[int]()
        for t, code in zip(token, own, strict=True):
            total[t] += code
            active[t] += code > 0.1
        top = [t for t in sorted(total, key=lambda t: (-total[t], t)) if total[t] > 0][:4]
        padded = top + [-1] * (4 - len(top))
        assert found["token"][i].tolist() == padded
        np.testing.assert_allclose(found["share"][i, : len(top)], [total[t] / sum(own) for t in top], rtol=1e-5)
        assert found["active"][i, : len(top)].tolist() == [active[t] for t in top]
        assert found["rows"][i, : len(top)].tolist() == [count[t] for t in top]
        number = sum(active.values())
        assert found["activating"][i] == number
        if top:
            assert found["precision"][i] == pytest.approx(active[top[0]] / number)
            assert found["recall"][i] == pytest.approx(active[top[0]] / count[top[0]])
    assert np.isnan(found["precision"][1])
    assert found["dead"].tolist() == [False, True, *[False] * 6]
    assert found["tested"].tolist() == [True, False, False, *[True] * 5]
    assert found["single_token"].tolist() == [True, False, False, True, *[False] * 4]


def test_p_values_are_those_of_fisher(text: Words) -> None:
    found = _run(text, _codes(text)).arrays
    rows, raw = len(text.place), []
    for i in found["tested"].nonzero()[0]:
        on, of, count = found["active"][i, 0], found["activating"][i], found["rows"][i, 0]
        table = [[on, of - on], [count - on, rows - of - count + on]]
        raw.append(min(1, 10 * fisher_exact(table, alternative="greater").pvalue))
    np.testing.assert_allclose(found["p_value"][found["tested"]], false_discovery_control(raw), rtol=1e-9)
    assert (found["p_value"][~found["tested"]] == 1).all()


def test_no_unit_is_significant_by_chance() -> None:
    """Codes that know nothing of the words, of units that are active rarely and often."""
    text = random_words(60, seed=3)
    generator = torch.Generator().manual_seed(5)
    often = torch.linspace(0.01, 0.5, 400)
    z = (torch.rand(len(text.place), 400, generator=generator) < often).float()
    numbers = _run(text, z).numbers
    assert numbers["untested_units"] < 50
    assert numbers["significant_units"] <= 1
    assert numbers["token_share"] == pytest.approx(numbers["chance_token_share"], rel=0.05)


def test_numbers_count_and_average_what_was_tested(text: Words) -> None:
    result = _run(text, _codes(text), n_units=2)
    numbers, arrays = result.numbers, result.arrays
    json.dumps(numbers, allow_nan=False)
    assert (numbers["samples"], numbers["tokens"], numbers["units"]) == (len(text.place), 10, 8)
    assert (numbers["dead_units"], numbers["untested_units"], numbers["single_token_units"]) == (1, 2, 2)
    assert numbers["single_token_share"] == 2 / 8
    tested = arrays["tested"]
    assert numbers["token_share"] == pytest.approx(arrays["share"][tested, 0].mean())
    assert numbers["chance_token_share"] == pytest.approx(arrays["chance_share"][tested].mean())
    first, second = numbers["most_selective"]
    assert first == {"unit": 0, "token": "w4", "share": 1, "precision": 1, "recall": 1}
    assert (second["unit"], second["token"], second["precision"]) == (3, "w6", 1)
    assert second["recall"] == pytest.approx(0.5, abs=0.2)
    assert list(result.labels) == ["single_token_units", "single_token_share", "token_share"]
    assert _run(text, _codes(text), least_share=1.0).numbers["single_token_units"] == 1


@pytest.mark.parametrize("z", [torch.zeros(7, 3), torch.ones(7, 1)], ids=["dead", "constant"])
def test_degenerate_codes_are_drawn_too(z: Tensor) -> None:
    result = _run(Words("a b a c", "b c d"), z)
    json.dumps(result.numbers, allow_nan=False)
    assert result.numbers["most_selective"] == []
    for figure in result.figures.values():
        assert to_png(figure).startswith(b"\x89PNG")
        assert all(axes.texts for axes in figure.axes)


def test_classes_come_before_text(text: Words) -> None:
    """Text with labels of its own is analysed by these."""
    subject = on_text(text, _codes(text))
    labelled = subject.sample._replace(label=torch.arange(len(text.place)) % 2)
    assert "classes" in selectivity.analyse(type(subject)(subject.coder, labelled), permutations=20).numbers
