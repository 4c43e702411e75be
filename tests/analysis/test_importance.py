"""Importance against loops that leave units out one by one, and on degenerate codes."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from sparse_ae.analysis import Subject, ablation, importance
from sparse_ae.analysis.ablation import AffineAblation, DecodedAblation, ablate
from sparse_ae.plotting.style import to_png
from tests.analysis.subjects import FixedCoder, subject_of

OPTIONS = {"n_atoms": 4}


class Bent(FixedCoder):
    """With a bias and a sigmoid behind the atoms."""

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(super().decode(z) - 0.3)


class Shifted(FixedCoder):
    """With a bias."""

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z) + torch.linspace(0, 1, 16)


def _subject(coder: type[FixedCoder], z: Tensor | None = None) -> Subject:
    """Codes of either sign, some 0, one unit dead."""
    generator = torch.Generator().manual_seed(1)
    if z is None:
        z = torch.randn(60, 7, generator=generator)
        z = z * (z.abs() > 0.5)
        z[:, 3] = 0
    subject = subject_of(z, torch.randn(z.shape[1], 16, generator=generator), label=torch.arange(len(z)) % 3)
    given = subject.coder
    assert isinstance(given, FixedCoder)
    return Subject(coder(given.x, given.z, given.dictionary), subject.sample)


def _mse(subject: Subject, keep: list[int]) -> float:
    """With the units ``keep`` alone, in NumPy's float64 but for the decoder."""
    whole = subject.codes.rows(slice(None))
    z = torch.zeros_like(whole)
    z[:, keep] = whole[:, keep]
    errors = subject.coder.decode(z).double().numpy() - subject.x.double().numpy()
    return float((errors**2).mean())


@pytest.mark.parametrize(("coder", "kind"), [(Shifted, AffineAblation), (Bent, DecodedAblation)])
def test_importance_and_curves_against_leaving_units_out(coder: type[FixedCoder], kind: type) -> None:
    subject = _subject(coder)
    found = ablate(subject, decodings=10_000)
    assert isinstance(found, kind)
    everyone = list(range(7))
    expected = [_mse(subject, [j for j in everyone if j != i]) - _mse(subject, everyone) for i in everyone]
    np.testing.assert_allclose(found.importance, expected, atol=1e-7)
    assert found.importance[3] == 0
    order = [4, 0, 6, 3, 1, 5, 2]
    np.testing.assert_allclose(
        found.kept(torch.tensor(order), [0, 2, 5, 7]), [_mse(subject, order[:m]) for m in (0, 2, 5, 7)], rtol=1e-5
    )


def _greedy_errors(subject: Subject) -> list[float]:
    """The MSE with the best next unit again and again, by trying each."""
    chosen: list[int] = []
    for _ in range(len(subject.atoms)):
        rest = [i for i in range(len(subject.atoms)) if i not in chosen]
        chosen.append(min(rest, key=lambda i: _mse(subject, [*chosen, i])))
    return [_mse(subject, chosen[:m]) for m in range(len(chosen) + 1)]


def _errors_in(subject: Subject, order: Tensor) -> list[float]:
    assert sorted(order.tolist()) == list(range(len(subject.atoms)))
    return [_mse(subject, order[:m].tolist()) for m in range(len(order) + 1)]


def test_greedy_selection_takes_the_best_next_unit() -> None:
    subject = _subject(Shifted)
    found = ablate(subject, decodings=1)
    assert isinstance(found, AffineAblation)
    decoded = DecodedAblation(found.samples, subject)
    for order in (found.greedy_order(), decoded.greedy_order(), decoded.greedy_order(growth=1)):
        np.testing.assert_allclose(_errors_in(subject, order), _greedy_errors(subject), rtol=1e-6)  # there may be ties


def _wide(coder: type[FixedCoder]) -> Subject:
    """Two codes a sample, of 40 units."""
    generator = torch.Generator().manual_seed(5)
    unit = torch.rand(60, 40, generator=generator).topk(2, dim=1).indices
    return _subject(coder, torch.zeros(60, 40).scatter_(1, unit, torch.randn(60, 2, generator=generator)))


@pytest.mark.parametrize("pairs", [2**24, 240, 40])
def test_of_many_units_only_those_that_are_active_together_are_compared(
    pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pairs of units, the 4 of each sample, those of 10 samples."""
    monkeypatch.setattr(ablation, "_PAIRS", pairs)
    subject = _wide(Shifted)
    found = ablate(subject)
    assert isinstance(found, AffineAblation)
    assert len(found.samples) == min(pairs // 4, 60)
    part = Subject(subject.coder, subject.sample._replace(x=subject.x[found.samples], label=None))
    everyone = list(range(40))
    expected = [_mse(part, [j for j in everyone if j != i]) - _mse(part, everyone) for i in everyone]
    np.testing.assert_allclose(found.importance, expected, atol=1e-7)
    order = found.greedy_order()
    np.testing.assert_allclose(found.kept(order, range(41)), _errors_in(part, order), rtol=1e-5)
    np.testing.assert_allclose(_errors_in(part, order)[:8], _greedy_errors(part)[:8], rtol=1e-5)


def test_a_greedy_search_by_decoding_ends_after_some_units(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = _wide(Bent)
    whole = DecodedAblation(torch.arange(60), subject).greedy_order()
    monkeypatch.setattr(ablation, "_GREEDY_UNITS", 8)
    found = DecodedAblation(torch.arange(60), subject)
    order = found.greedy_order().tolist()
    assert sorted(order) == list(range(40))
    assert order[0] == whole[0]
    by_importance = found.importance.argsort(descending=True, stable=True).tolist()
    assert order[8:] == [unit for unit in by_importance if unit not in order[:8]]


class Perceptron(FixedCoder):
    """With hidden units behind the code, and a sigmoid."""

    def decode(self, z: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(2)
        inner, outer = (torch.randn(*shape, generator=generator) for shape in ((z.shape[1], 20), (20, 16)))
        return torch.sigmoid(torch.relu(z @ inner) @ outer / 3)


def test_greedy_selection_behind_a_perceptron_against_trying_each_unit() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.rand(60, 12, generator=generator).mul(2).sub(0.7).relu()
    z[:, 5] = 0
    x = Perceptron(z, z, z).decode(z * (1 + 0.3 * torch.randn(z.shape, generator=generator)))
    subject = Subject(Perceptron(x, z, torch.zeros(12, 16)), subject_of(z, x=x, label=torch.arange(60) % 3).sample)
    found, best = DecodedAblation(torch.arange(60), subject), _greedy_errors(subject)
    np.testing.assert_allclose(_errors_in(subject, found.greedy_order(growth=1)), best, rtol=1e-6)
    blocks = _errors_in(subject, found.greedy_order())
    assert blocks[:2] == pytest.approx(best[:2])
    assert np.mean(blocks) < 1.05 * np.mean(best)
    assert np.mean(_errors_in(subject, found.importance.argsort(descending=True))) > 1.05 * np.mean(best)


def test_a_linear_decoder_is_found_by_trying() -> None:
    subject = _subject(Shifted)
    assert subject.is_linear
    torch.testing.assert_close(subject.empty, torch.linspace(0, 1, 16))
    assert not _subject(Bent).is_linear


def test_decodings_bound_the_samples_by_the_codes_that_are_not_0() -> None:
    z = torch.zeros(60, 8)
    z[:, :2] = 1  # two codes a sample
    assert len(ablate(_subject(Bent, z), decodings=40).samples) == 20
    assert len(ablate(_subject(Bent, z), decodings=1).samples) == 1
    assert len(ablate(_subject(Bent, z), decodings=500).samples) == 60
    assert len(ablate(_subject(Shifted, z), decodings=1).samples) == 60  # in closed form


@pytest.mark.parametrize("b", [[3, 1, 4, 1, 5, 9, 2, 6], [0, 0, 0, 1, 1, 1, 2, 2]])
def test_rank_correlation_by_hand(b: list[float]) -> None:
    """Pearson's correlation of ranks, ties at their mean: (how many are smaller) + (how many are equal + 1) / 2."""
    a = np.array([2.0, 7, 1, 8, 2, 8, 1, 8])
    ranks = [[sum(u < v for u in s) + (sum(u == v for u in s) + 1) / 2 for v in s] for s in (a.tolist(), b)]
    assert importance.spearman(a, np.array(b)) == pytest.approx(np.corrcoef(ranks)[0, 1])
    assert importance.spearman(a, np.ones(8)) is None
    assert importance.spearman(np.zeros(0), np.zeros(0)) is None


def test_numbers_of_a_code_worked_out_by_hand() -> None:
    """Unit i is pixel i, but unit 2 codes what is not there, unit 3 is dead, and pixel 5 is not coded."""
    x, z = torch.zeros(4, 16), torch.zeros(4, 4)
    x[:, 0], x[:2, 1], x[:, 5] = 1.0, 1.0, torch.arange(4) / 10
    z[:, :2], z[3, 2] = x[:, :2], 0.5
    subject = subject_of(z, torch.eye(4, 16), x=x)
    subject.sample = subject.sample._replace(train_rows=lambda: torch.zeros(3, 16))
    result = importance.analyse(subject, **OPTIONS)
    # The error with the first m units is 6, 2, 0, 0, 0.25 beside that of pixel 5: 0.9 * 5.75 lies between 1 and 2.
    assert result.numbers == {
        "units": 4,
        "dead_units": 1,
        "affine_decoder": True,
        "samples": 4,
        "harmful_units": 1,
        "top_tenth_share": pytest.approx(4 / 6),
        "lifetime_correlation": pytest.approx(1),
        "units_for_90_percent": 2,
        "greedy_units_for_90_percent": 2,
        "most_important": [
            {"unit": unit, "importance": pytest.approx(value / 64)} for unit, value in ((0, 4), (1, 2), (2, -0.25))
        ],
    }
    np.testing.assert_allclose(result.arrays["importance"], np.array([4, 2, -0.25, 0]) / 64, atol=1e-9)
    np.testing.assert_array_equal(result.arrays["lifetime"], [1, 0.5, 0.25, 0])
    np.testing.assert_array_equal(result.arrays["kept"], [0, 1, 2, 3, 4])
    np.testing.assert_allclose(
        result.arrays["mse"] * 64 - 0.14,
        [[6, 2, 0, 0, 0.25], [6, 2, 0, 0, 0.25], [0.25, 4.25, 6.25, 6.25, 6]],
        atol=1e-6,
    )


def test_figures() -> None:
    result = importance.analyse(_subject(Shifted), **OPTIONS)
    left, middle, right = result.figures["importance"].axes
    assert sum(len(line.get_xdata()) for line in left.lines if line.get_marker() == "o") == 6
    assert sum(len(line.get_xdata()) for line in middle.lines if line.get_marker() == "o") == 6
    assert len([line for line in right.lines if not line.get_label().startswith("_")]) == 3
    assert "1 dead and not shown" in result.figures["importance"].get_suptitle()
    assert f"{result.numbers['lifetime_correlation']:.2f}" in middle.get_title()
    (atoms,) = result.figures["important_atoms"].axes
    first = result.numbers["most_important"][0]
    assert atoms.texts[0].get_text() == f"{first['unit']}: {first['importance']:.1e}"
    assert len(importance.analyse(_subject(Bent), **OPTIONS).figures["importance"].axes[2].get_lines()) == 4


@pytest.mark.parametrize("coder", [Shifted, Bent])
@pytest.mark.parametrize(
    "z",
    [torch.zeros(10, 4), torch.ones(10, 1), torch.full((1, 3), 0.5), -torch.rand(20, 3), torch.eye(5, 1024)],
    ids=["dead", "one", "single", "negative", "many"],
)
def test_degenerate_codes(coder: type[FixedCoder], z: Tensor) -> None:
    result = importance.analyse(_subject(coder, z), **OPTIONS)
    json.dumps(result.numbers, allow_nan=False)
    assert result.numbers["dead_units"] == int((z == 0).all(dim=0).sum())
    assert ("important_atoms" in result.figures) == bool(z.any())
    for figure in result.figures.values():
        assert to_png(figure, dpi=30).startswith(b"\x89PNG")
