"""Every learner of a dictionary: an OMP coder on unit-norm atoms, determined by the seed."""

from typing import Any

import pytest
import torch
from sklearn.decomposition import MiniBatchDictionaryLearning

from sparse_ae.coders import KSVD, DataAtoms, OnlineDictionaryLearning, RandomAtoms
from tests.coders.test_ksvd import planted

LEARNERS: list[Any] = [RandomAtoms, DataAtoms, KSVD, OnlineDictionaryLearning]


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_learner(learner: Any, dtype: torch.dtype) -> None:
    x = planted(300)[0].to(dtype) + 3
    coder = learner(20, 2, seed=1).fit(x)
    assert coder.dictionary.dtype == dtype
    assert coder.dictionary.shape == (20, 12)
    torch.testing.assert_close(coder.dictionary.norm(dim=1), torch.ones(20, dtype=dtype))
    torch.testing.assert_close(coder.mean, x.mean(dim=0))
    z = coder.encode(x)
    assert ((z != 0).sum(dim=1) <= 2).all()
    centred = x - x.mean(dim=0)
    assert (coder.decode(z) - x).square().sum() < centred.square().sum()
    assert torch.equal(coder.dictionary, learner(20, 2, seed=1).fit(x).dictionary)
    assert not torch.equal(coder.dictionary, learner(20, 2, seed=2).fit(x).dictionary)
    x[0, 0] = torch.inf
    with pytest.raises(ValueError, match="x: 1 of 3600 values are not finite"):
        learner(20, 2).fit(x)
    with pytest.raises(ValueError, match="x: no samples"):
        learner(20, 2).fit(x[:0])


@pytest.mark.parametrize("learner", LEARNERS)
def test_bad_options(learner: Any) -> None:
    with pytest.raises(ValueError, match=r"n_nonzero=21: more than there are atoms \(expected 1 to latent_dim=20\)"):
        learner(20, 21)
    with pytest.raises(ValueError, match="latent_dim=0: should be greater than 0"):
        learner(0, 1)


def test_data_atoms_are_samples() -> None:
    x, _ = planted(30)
    x[:5] = x[5:].mean(dim=0)  # and so the mean of all
    centred = x - x.mean(dim=0)
    atoms = DataAtoms(20, 2).fit(x).dictionary
    cosine = atoms @ (centred / centred.norm(dim=1, keepdim=True)).T
    assert (cosine[:, 5:].amax(dim=1) > 1 - 1e-9).all()


@pytest.mark.parametrize(("epochs", "batch_size"), [(2, 64), (30, 16)])
def test_online_dictionary_learning_is_scikit_learns_for_all_its_epochs(epochs: int, batch_size: int) -> None:
    x, _ = planted()
    ours = OnlineDictionaryLearning(20, 2, penalty=0.5, epochs=epochs, batch_size=batch_size, seed=0).fit(x)
    options = {"max_iter": epochs, "batch_size": batch_size, "tol": 0.0, "max_no_improvement": None}
    theirs = MiniBatchDictionaryLearning(20, alpha=0.5, fit_algorithm="cd", random_state=0, **options)
    theirs.fit((x - x.mean(dim=0)).numpy())
    assert theirs.n_steps_ == epochs * -(-len(x) // batch_size)  # and not the hundred or so of its defaults
    atoms = torch.from_numpy(theirs.components_)
    torch.testing.assert_close(ours.dictionary, atoms / atoms.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("learner", [DataAtoms, KSVD])
@pytest.mark.parametrize("exponent", [-100, -65, 56, 100])  # squares of such values are 0 or infinite in float32
def test_dictionaries_do_not_depend_on_the_scale_of_the_data(learner: Any, exponent: int) -> None:
    x = planted(300)[0].float()
    scaled = x * 2.0**exponent
    coder = learner(20, 2).fit(scaled)
    assert torch.equal(coder.dictionary, learner(20, 2).fit(x).dictionary)
    error = (coder.decode(coder.encode(scaled)) - scaled) * 2.0**-exponent
    assert error.square().sum() < (x - x.mean(dim=0)).square().sum()
