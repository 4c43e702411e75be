"""Matching pursuit as an encoder, against the classical coder and against gradients by hand."""

import pytest
import torch

from sparse_ae.coders import OMP
from sparse_ae.config.errors import ConfigError
from sparse_ae.dead import AuxK, Resample
from sparse_ae.models import MatchingPursuit, SparseAutoencoder
from sparse_ae.sparsity import L1, NoSparsity
from sparse_ae.training.objective import Objective

DIM, UNITS, BATCH = 12, 30, 16


def _model(**options: object) -> SparseAutoencoder:
    torch.manual_seed(0)
    network = MatchingPursuit(DIM, latent_dim=UNITS, **({"k": 3} | options))  # type: ignore[arg-type]
    return SparseAutoencoder(network, NoSparsity(latent_dim=UNITS)).double()


def _data() -> torch.Tensor:
    return torch.randn(BATCH, DIM, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("selection", ["correlation", "error"])
def test_codes_are_those_of_the_classical_coder(selection: str, signed: bool) -> None:
    model, x = _model(selection=selection, signed=signed), _data()
    with torch.no_grad():
        model.network.b_pre.normal_()
        model.network.atoms.mul_(torch.linspace(0.5, 2, UNITS)[:, None])
    coder = OMP(model.dictionary, 3, mean=model.network.b_pre, selection=selection, positive=not signed)  # type: ignore[arg-type]
    assert torch.equal(model.encode(x), coder.encode(x))
    torch.testing.assert_close(model.decode(model.encode(x)), coder.decode(coder.encode(x)))


@pytest.mark.parametrize("signed", [False, True])
def test_the_gradient_is_the_whole_one_while_the_choice_stays(signed: bool) -> None:
    """Central differences of the error, in which codes are fitted anew, in atoms and bias."""
    model, x = _model(signed=signed), _data()
    objective = Objective(model)
    objective(x, x).loss.backward()
    support = model.encode(x) != 0
    generator = torch.Generator().manual_seed(2)
    for parameter in (model.network.atoms, model.network.b_pre):
        assert parameter.grad is not None
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        errors = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter.add_(direction, alpha=step)
                assert torch.equal(model.encode(x) != 0, support)
                errors.append(float(objective(x, x).loss))
                parameter.sub_(direction, alpha=step)
        assert (errors[0] - errors[1]) / 2e-5 == pytest.approx(float((parameter.grad * direction).sum()), rel=1e-3)


def test_an_atom_of_length_0_is_never_chosen() -> None:
    model, x = _model(unit_norm=False), _data()
    with torch.no_grad():
        model.network.atoms[4] = 0
    z = model.encode(x)
    assert (z.isfinite().all(), z[:, 4].any(), z[:, :4].any()) == (True, False, True)


def test_any_number_of_dimensions_comes_before_the_last() -> None:
    network, x = _model().network, _data()
    assert torch.equal(network.encode(x.reshape(4, 4, DIM)), network.encode(x).reshape(4, 4, UNITS))
    torch.testing.assert_close(network.encode(x[0]), network.encode(x)[0])


def test_a_row_that_is_not_finite_has_a_code_that_is_not() -> None:
    network, x = _model().network, _data()
    x[1, 2], x[3, 0] = torch.nan, torch.inf
    finite = network.encode(x).isfinite().all(dim=1)
    assert finite.logical_not().nonzero().squeeze(1).tolist() == [1, 3]


def test_training_lowers_the_error() -> None:
    objective, x = Objective(_model()), _data()
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-2)
    losses = [objective.train_step_(optimizer, x, step=step, total_steps=100).loss.item() for step in range(100)]
    assert losses[-1] < 0.7 * losses[0]
    torch.testing.assert_close(objective.model.network.atom_norms(), torch.ones(UNITS, dtype=torch.float64))


def test_units_are_replaced_by_what_they_should_code() -> None:
    model, x = _model(k=1), _data()
    changed = model.network.replace_units_(torch.tensor([2, 5]), x[:2], scale=1.0)
    assert [parameter is model.network.atoms for parameter in changed] == [True]
    assert model.encode(x[:2]).argmax(dim=1).tolist() == [2, 5]


def test_what_does_not_go_together_is_refused() -> None:
    network = MatchingPursuit(DIM, latent_dim=UNITS, k=3)
    with pytest.raises(
        ConfigError, match=r"sparsity: MatchingPursuit chooses .* L1 has nothing to do \(expected sparsity="
    ):
        SparseAutoencoder(network, L1(latent_dim=UNITS))
    Objective(_model(), Resample(latent_dim=UNITS))
    with pytest.raises(ConfigError, match=r"dead: AuxK trains .* \(expected dead=resample or none\)"):
        Objective(_model(), AuxK(latent_dim=UNITS))
    with pytest.raises(ConfigError, match="k=31: not a number of units"):
        MatchingPursuit(DIM, latent_dim=UNITS, k=31)
