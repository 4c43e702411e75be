"""K-SVD: its error falls, its fits continue, and it finds the dictionary that made the data."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sparse_ae.coders import KSVD
from sparse_ae.coders.ksvd import KSVDState, replace_, update_atom_, update_dictionary_
from sparse_ae.coders.omp import SparseCodes, sparse_codes


def planted(samples: int = 600, n_atoms: int = 24, dim: int = 12, k: int = 2) -> tuple[Tensor, Tensor]:
    """Data that k of the atoms make with coefficients of either sign, centred, float64."""
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(n_atoms, dim, generator=generator, dtype=torch.float64)
    atoms /= atoms.norm(dim=1, keepdim=True)
    chosen = torch.rand(samples, n_atoms, generator=generator).topk(k, dim=1).indices
    value = torch.randn(samples, k, generator=generator, dtype=torch.float64)
    return SparseCodes(chosen, value + value.sign()).dense(n_atoms) @ atoms, atoms


@pytest.mark.parametrize("memory", [0.0, 50.0])
def test_no_atom_of_the_update_stage_raises_the_error(memory: float) -> None:
    x, _ = planted()
    atoms = x[:24] / x[:24].norm(dim=1, keepdim=True)
    codes = sparse_codes(x, atoms, 3)
    z = codes.dense(24)
    assert (z < 0).any()  # what follows refits coefficients of either sign
    residual = x - z @ atoms
    errors = [float(residual.square().sum())]
    for j in range(24):
        rows = z[:, j].nonzero()[:, 0]
        z[rows, j], residual[rows] = update_atom_(atoms[j], z[rows, j], residual[rows], torch.tensor(memory))
        errors.append(float(residual.square().sum()))
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(errors))
    assert errors[-1] < (0.9 if memory == 0 else 0.98) * errors[0]
    torch.testing.assert_close(residual, x - z @ atoms)
    torch.testing.assert_close(atoms.norm(dim=1), torch.ones(24, dtype=torch.float64))


def test_one_atom_ends_at_the_leading_singular_vector() -> None:
    x, _ = planted(50)
    atom, g, residual = x[0] / x[0].norm(), x @ x[0] / x[0].norm(), torch.empty(0)
    residual = x - g[:, None] * atom
    for _ in range(300):
        g, residual = update_atom_(atom, g, residual, torch.zeros(()))
    leading = torch.linalg.svd(x).Vh[0]
    torch.testing.assert_close((atom @ leading).abs(), torch.ones((), dtype=torch.float64))


def test_the_whole_stage_is_its_atoms_one_by_one() -> None:
    x, _ = planted()
    atoms = x[:24] / x[:24].norm(dim=1, keepdim=True)
    codes = sparse_codes(x, atoms, 3)
    codes.value[:5] = 0.0  # as where a pursuit stopped early
    residual = x - codes.dense(24) @ atoms
    one, z, left = atoms.clone(), codes.dense(24), residual.clone()
    for j in range(24):
        rows = z[:, j].nonzero()[:, 0]
        z[rows, j], left[rows] = update_atom_(one[j], z[rows, j], left[rows], torch.zeros(()))
    uses = update_dictionary_(atoms, codes, residual, torch.zeros(24, dtype=torch.float64))
    torch.testing.assert_close(atoms, one)
    torch.testing.assert_close(codes.dense(24), z)
    torch.testing.assert_close(residual, left)
    assert uses.tolist() == (z != 0).sum(dim=0).tolist()


@pytest.mark.parametrize("batch_size", [None, 150])
def test_finds_the_planted_atoms(batch_size: int | None) -> None:
    x, atoms = planted(2000)
    states: list[KSVDState] = []
    coder = KSVD(24, 2, epochs=25, batch_size=batch_size).fit(x, callback=states.append)
    cosine = (coder.dictionary @ atoms.T).abs().amax(dim=0)
    assert (cosine > 0.98).double().mean() >= 0.8
    assert states[-1].fvu < 0.4 * states[0].fvu
    assert [s.epoch for s in states] == list(range(1, 26))
    z = coder.encode(x)
    assert ((z != 0).sum(dim=1) <= 2).all()
    error = (coder.decode(z) - x).square().sum() / (x - x.mean(dim=0)).square().sum()
    assert error < 0.1


@pytest.mark.parametrize("batch_size", [None, 150])
def test_a_fit_that_is_continued_is_the_fit(batch_size: int | None, tmp_path_factory: pytest.TempPathFactory) -> None:
    x, _ = planted()
    learner = KSVD(24, 2, epochs=6, batch_size=batch_size, seed=3)
    states: list[KSVDState] = []
    whole = learner.fit(x, callback=states.append)
    path = tmp_path_factory.mktemp("state") / "state.pt"
    torch.save(states[2]._asdict(), path)
    continued = learner.fit(x, state=KSVDState(**torch.load(path, weights_only=True)))
    assert torch.equal(whole.dictionary, continued.dictionary)
    assert not torch.equal(whole.dictionary, KSVD(24, 2, epochs=6, batch_size=batch_size, seed=4).fit(x).dictionary)


def test_unused_and_duplicate_atoms_become_the_samples_represented_worst() -> None:
    x = torch.eye(8, dtype=torch.float64) * torch.arange(1, 9)[:, None]
    atoms = torch.eye(8, dtype=torch.float64)[[0, 1, 2, 2]]
    atoms[3] = -atoms[3] + 0.01 * atoms[0]
    atoms[3] /= atoms[3].norm()
    error = torch.tensor([0, 0, 0, 16, 25, 36, 49, 64], dtype=torch.float64)
    replaced = replace_(atoms, torch.tensor([5, 0, 4, 9]), x, error)
    assert sorted(replaced.tolist()) == [1, 2]  # unused; and used less than the one it is like
    assert sorted(atoms[[1, 2]].argmax(dim=1).tolist()) == [6, 7]
    assert (atoms[3].abs() > 0.9).sum() == 1
    untouched = atoms.clone()
    assert replace_(atoms, torch.tensor([5, 0, 4, 9]), x, torch.zeros(8, dtype=torch.float64)).numel() == 0
    assert torch.equal(atoms, untouched)  # no sample is worth an atom


def test_an_atom_whose_coefficients_have_no_square_stays_as_it_is() -> None:
    half = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    tiny = 1e-24 * torch.eye(8)[:1]
    x = torch.cat([half, -half, tiny, -tiny])  # of mean exactly 0, or the two would differ from it by rounding alone
    coder = KSVD(121, 1, epochs=3).fit(x)
    assert coder.dictionary.isfinite().all()
    torch.testing.assert_close(coder.dictionary.norm(dim=1), torch.ones(121))


def test_no_sample_becomes_an_atom_that_is_there() -> None:
    x = torch.eye(8, dtype=torch.float64)[[0, 1, 2, 3, 4, 5, 6, 6]] * torch.arange(1, 9)[:, None]
    x[5] = -9 * torch.eye(8, dtype=torch.float64)[0]
    atoms = torch.eye(8, dtype=torch.float64)[[0, 1, 2, 3]]
    # By error: twice the same direction, one that an atom has, and then one that is new.
    error = torch.tensor([0, 0, 0, 0, 25, 36, 49, 64], dtype=torch.float64)
    replaced = replace_(atoms, torch.tensor([5, 0, 4, 0]), x, error)
    assert sorted(replaced.tolist()) == [1, 3]
    assert sorted(atoms.argmax(dim=1).tolist()) == [0, 2, 4, 6]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 0}, "latent_dim=0: should be greater than 0"),
        ({"n_nonzero": 25}, "n_nonzero=25: more than there are atoms (expected 1 to latent_dim=24)"),
        ({"epochs": 0}, "epochs=0: should be greater than 0"),
        ({"batch_size": 0}, "batch_size=0: should be greater than 0"),
        ({"forgetting": 0.0}, "forgetting=0.0: should be greater than 0"),
        ({"selection": "best"}, "selection=best: should be 'correlation' or 'error'"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        KSVD(**{"latent_dim": 24, "n_nonzero": 2, **options})  # type: ignore[arg-type]
    assert str(error.value) == message


def test_bad_data() -> None:
    x, _ = planted(30)
    with pytest.raises(
        ValueError, match=r"latent_dim=24: more atoms than samples that differ from their mean \(expected 1 to 20\)"
    ):
        KSVD(24, 2).fit(x[:20])
    with pytest.raises(ValueError, match="state: 24 atoms \\(expected latent_dim=20\\)"):
        KSVD(20, 2).fit(x, state=KSVD(24, 2).start(x))
    x[3, 4] = torch.nan
    with pytest.raises(ValueError, match="x: 1 of 360 values are not finite"):
        KSVD(24, 2).fit(x)
