"""Recovery of true features: dictionaries and codes by hand, for which the answer is known."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import f1_score, precision_score, recall_score
from torch import Tensor

from sparse_ae.analysis import Result, Subject, recovery
from sparse_ae.config.errors import ConfigError
from sparse_ae.data.sparse_model import Truth
from tests.analysis.subjects import subject_of

FEATURES, VALUES, SAMPLES = 6, 16, 400


def _random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _true_codes(seed: int = 0) -> Tensor:
    random = _random(seed)
    fires = random.random((SAMPLES, FEATURES)) < 0.3
    return torch.from_numpy(fires * random.exponential(size=fires.shape)).float()


def _true_atoms() -> Tensor:
    return F.normalize(torch.from_numpy(_random(5).normal(size=(FEATURES, VALUES))).float(), dim=1)


def _analyse(z: Tensor, atoms: Tensor, codes: Tensor, true: Tensor, parent: list[int] | None = None) -> Result:
    """Recovery of ``codes`` on ``true`` atoms by units with codes ``z`` and ``atoms``."""
    x = torch.rand(len(z), true.shape[1], generator=torch.Generator().manual_seed(0))  # only tells samples apart
    parents = torch.tensor(parent if parent else [-1] * codes.shape[1])
    truth = Truth(true, torch.zeros(true.shape[1]), torch.ones(len(true)), parents, sparse.csr_array(codes.numpy()))
    subject = subject_of(z, atoms, x=x)
    return recovery.analyse(Subject(subject.coder, subject.sample._replace(truth=lambda: truth)))


def test_the_truth_permuted_negated_and_scaled_is_recovered() -> None:
    codes, true = _true_codes(), _true_atoms()
    codes[codes < 0.5] = 0  # so that each is above the threshold
    order = torch.from_numpy(_random(1).permutation(FEATURES))
    scale = torch.tensor([1.0, -1, 2, -2, 0.5, -0.5])
    result = _analyse((codes / scale)[:, order], (true * scale[:, None])[order], codes, true)
    numbers = result.numbers
    for name in ("mcc", "found_share", "best_cosine", "uniqueness", "precision", "recall", "f1", "magnitude_slope"):
        assert numbers[name] == pytest.approx(1, abs=1e-5), name
    assert numbers["split_share"] == 0
    assert numbers["units_per_feature"] == 1
    assert numbers["true_l0"] == pytest.approx(numbers["l0"])
    assert order[result.arrays["unit"]].tolist() == list(range(FEATURES))
    np.testing.assert_array_equal(np.sign(result.arrays["cosine"]), np.sign(scale.numpy()))
    assert numbers["absorption"] is None
    assert "hierarchy" not in result.figures


def test_random_directions_are_at_the_null() -> None:
    random = _random(2)
    true = F.normalize(torch.from_numpy(random.normal(size=(200, 32))).float(), dim=1)
    atoms = torch.from_numpy(random.normal(size=(200, 32))).float()
    numbers = _analyse(torch.ones(5, 200), atoms, torch.ones(5, 200), true).numbers
    assert numbers["mcc"] == pytest.approx(numbers["random_mcc"], abs=0.01)
    assert numbers["found_share"] == numbers["random_found_share"] == 0
    cosines = np.abs((true @ F.normalize(atoms, dim=1).T).numpy())
    rows, columns = linear_sum_assignment(-cosines)
    assert numbers["mcc"] == pytest.approx(cosines[rows, columns].mean(), abs=1e-6)
    assert numbers["best_cosine"] == pytest.approx(cosines.max(axis=1).mean(), abs=1e-6)
    assert numbers["uniqueness"] == len(set(cosines.argmax(axis=1))) / 200


def test_firing_is_that_of_scikit_learn() -> None:
    codes, true = _true_codes(), _true_atoms()
    random = _random(3)
    z = torch.where(torch.from_numpy(random.random(codes.shape) < 0.2), torch.rand(codes.shape), 0.7 * codes)
    result = _analyse(z, true, codes, true)
    assert result.arrays["unit"].tolist() == list(range(FEATURES))
    fires, active = codes.numpy() > 0, z.numpy() > 0.1
    for score, name in ((precision_score, "precision"), (recall_score, "recall"), (f1_score, "f1")):
        expected = [score(fires[:, i], active[:, i]) for i in range(FEATURES)]
        np.testing.assert_allclose(result.arrays[name], expected)
        assert result.numbers[name] == pytest.approx(np.mean(expected))
    both = fires & active
    slopes = [np.linalg.lstsq(codes[both[:, [i]][:, 0], i : i + 1], z[both[:, i], i])[0][0] for i in range(FEATURES)]
    np.testing.assert_allclose(result.arrays["slope"], slopes, rtol=1e-5)
    assert result.numbers["magnitude_slope"] == pytest.approx(np.mean(slopes))


def test_shrinkage_counts_the_norm_of_atoms() -> None:
    codes, true = _true_codes(), _true_atoms()
    numbers = _analyse(codes * 0.3 * 4, true / 4, codes, true).numbers
    assert numbers["magnitude_slope"] == pytest.approx(0.3, abs=1e-5)


def test_fewer_units_leave_features_without_one() -> None:
    codes, true = _true_codes(), _true_atoms()
    codes[codes < 0.5] = 0
    result = _analyse(codes[:, :3], true[:3], codes, true)
    numbers = result.numbers
    assert numbers["mcc"] == pytest.approx(0.5)  # of all features
    assert numbers["random_mcc"] < 0.5
    assert numbers["found_share"] == 0.5
    assert numbers["uniqueness"] == 0.5
    assert numbers["f1"] == pytest.approx(0.5)
    assert numbers["recall"] == pytest.approx(0.5)
    assert numbers["precision"] == pytest.approx(1)
    assert result.arrays["unit"].tolist() == [0, 1, 2, -1, -1, -1]
    assert np.isnan(result.arrays["cosine"][3:]).all()


def test_split_features_have_several_units() -> None:
    codes, true = _true_codes(), torch.eye(FEATURES, VALUES)
    atoms = torch.cat([true, true[:2] + 0.3 * true[2:4], true[:1] + true[1:2] + true[2:3]])
    z = torch.cat([codes, codes[:, :3]], dim=1)
    result = _analyse(z, atoms, codes, true)
    assert result.arrays["units"].tolist() == [2, 2, 1, 1, 1, 1]  # the last atom is at 0.58 of three features
    assert result.numbers["split_share"] == pytest.approx(2 / 6)
    assert result.numbers["units_per_feature"] == pytest.approx(8 / 6)
    assert result.numbers["uniqueness"] == 1


def test_merged_features_share_a_unit() -> None:
    codes, true = _true_codes(), torch.eye(FEATURES, VALUES)
    far = torch.eye(VALUES)[10:11]
    atoms = torch.cat([true[:1] + true[1:2], far, true[2:]])
    result = _analyse(codes, atoms, codes, true)
    assert result.arrays["best_unit"].tolist() == [0, 0, 2, 3, 4, 5]
    assert result.numbers["uniqueness"] == pytest.approx(5 / 6)
    assert result.numbers["found_share"] == pytest.approx(4 / 6)


def _family() -> tuple[Tensor, Tensor, list[int]]:
    """Parents 0 and 3 with two children each, which fire only with them; magnitudes are 1."""
    random, parent = _random(4), [-1, 0, 0, -1, 3, 3]
    fires = random.random((SAMPLES, FEATURES)) < 0.5
    for child, above in enumerate(parent):
        if above >= 0:
            fires[:, child] &= fires[:, above]
    return torch.from_numpy(fires).float(), torch.eye(FEATURES, VALUES), parent


def test_without_absorption_parents_fire_with_their_children() -> None:
    codes, true, parent = _family()
    result = _analyse(codes, true, codes, true, parent)
    assert result.numbers["absorption"] == 0
    assert result.numbers["silent_alone"] == 0
    assert result.numbers["parent_cosine"] == pytest.approx(0, abs=1e-6)
    assert "hierarchy" in result.figures


def test_absorption_is_the_share_of_a_childs_samples_in_which_its_parent_is_silent() -> None:
    """Child 1 takes its parent into its own atom; the unit of parent 3 misses some samples with no child."""
    codes, true, parent = _family()
    atoms, z = true.clone(), codes.clone()
    atoms[1] = true[1] + 0.8 * true[0]
    z[codes[:, 1] > 0, 0] = 0
    childless = ((codes[:, 3] > 0) & (codes[:, 4] == 0) & (codes[:, 5] == 0)).nonzero()[:, 0]
    z[childless[: len(childless) // 2], 3] = 0
    result = _analyse(z, atoms, codes, true, parent)
    shared = float((codes[:, 1] * codes[:, 2]).sum() / codes[:, 2].sum())
    np.testing.assert_allclose(result.arrays["absorbed"], [np.nan, 1, shared, np.nan, 0, 0], rtol=1e-6)
    missed = (len(childless) // 2) / len(childless)
    np.testing.assert_allclose(result.arrays["silent_alone"], [np.nan, 0, 0, np.nan, missed, missed], rtol=1e-6)
    assert result.numbers["absorption"] == pytest.approx((1 + shared) / 4)
    assert result.arrays["parent_cosine"][1] == pytest.approx(0.8 / np.hypot(1, 0.8), abs=1e-6)


def test_children_of_parents_that_are_not_found_do_not_count() -> None:
    codes, true, parent = _family()
    atoms = true.clone()
    atoms[0] = torch.eye(VALUES)[12]
    result = _analyse(codes, atoms, codes, true, parent)
    assert np.flatnonzero(np.isfinite(result.arrays["absorbed"])).tolist() == [4, 5]


def test_dead_units_are_left_out() -> None:
    codes, true = _true_codes(), _true_atoms()
    z = codes.clone()
    z[:, 2] = 0
    numbers = _analyse(z, true, codes, true).numbers
    assert numbers["dead_units"] == 1
    assert numbers["mcc"] == pytest.approx(5 / 6)
    assert numbers["found_share"] == pytest.approx(5 / 6)


def test_codes_of_zero_alone_recover_nothing() -> None:
    codes, true, parent = _family()
    result = _analyse(torch.zeros(codes.shape), true, codes, true, parent)
    assert result.numbers["mcc"] == result.numbers["random_mcc"] == 0
    assert result.numbers["best_cosine"] is None
    assert result.numbers["found_share"] == result.numbers["uniqueness"] == result.numbers["f1"] == 0
    assert result.numbers["magnitude_slope"] is None
    assert (result.arrays["unit"] == -1).all()


def test_features_that_never_fire_count_for_atoms_only() -> None:
    codes, true = _true_codes(), _true_atoms()
    codes[codes < 0.5] = 0
    z = codes.clone()
    codes[:, 0] = 0
    result = _analyse(z, true, codes, true)
    assert result.numbers["silent_features"] == 1
    assert result.numbers["found_share"] == 1
    assert result.numbers["f1"] == pytest.approx(1)
    assert np.isnan(result.arrays["f1"][0])


class _Bent:
    """Decoder that is not linear: tanh of the sum of atoms."""

    def __init__(self, z: Tensor, x: Tensor, atoms: Tensor) -> None:
        self.z, self.x, self.dictionary = z, x, atoms

    def encode(self, x: Tensor) -> Tensor:
        return self.z[torch.cdist(x, self.x).argmin(dim=1)]

    def decode(self, z: Tensor) -> Tensor:
        return torch.tanh(z @ self.dictionary)


def test_other_decoders_are_judged_by_what_units_add() -> None:
    codes, true = _true_codes().ceil(), torch.eye(FEATURES, VALUES)
    subject = subject_of(codes, true, x=codes @ true)
    truth = Truth(true, torch.zeros(VALUES), torch.ones(FEATURES), torch.full((FEATURES,), -1), sparse.csr_array(codes))
    coder: Any = _Bent(codes, codes @ true, true)
    numbers = recovery.analyse(Subject(coder, subject.sample._replace(truth=lambda: truth))).numbers
    assert numbers["mcc"] == pytest.approx(1)
    assert numbers["magnitude_slope"] == pytest.approx(np.tanh(1), abs=1e-5)  # at the typical activation, 1


def test_data_without_a_truth() -> None:
    with pytest.raises(ConfigError) as error:
        recovery.analyse(subject_of(torch.ones(3, 4)))
    message = "data: recovery needs the true features, and the data have none (expected data=synthetic)"
    assert str(error.value) == message
