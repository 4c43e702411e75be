"""Contract of ``encode`` and ``decode``, the boundary between users and every coder: shapes, types, one sentence."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sparse_ae import models, sparsity
from sparse_ae.coders import OMP, PCA, CoderModule, L1Coder, Projection
from sparse_ae.config.errors import UserError
from sparse_ae.models import Linear, MatchingPursuit, Network, SparseAutoencoder
from sparse_ae.sparsity import L1, NoSparsity, Sparsity

SHAPE, DIM, UNITS = (2, 3, 4), 24, 64
ROWS = torch.rand(5, DIM, generator=torch.Generator().manual_seed(0))
IMAGES = ROWS.reshape(5, *SHAPE)


def _public(package: Any, base: type) -> list[Any]:
    classes = [getattr(package, name) for name in package.__all__]
    return [kind for kind in classes if isinstance(kind, type) and issubclass(kind, base) and kind is not base]


def _autoencoder(network: type[Network], method: type[Sparsity]) -> SparseAutoencoder:
    sizes: dict[str, Any] = {"input_dim": DIM, "latent_dim": UNITS}
    return SparseAutoencoder(network(**sizes), method(latent_dim=UNITS))  # type: ignore[call-arg]


def _on_atoms(kind: Any) -> CoderModule:
    coder: CoderModule = kind(torch.randn(UNITS, DIM), mean=torch.full((DIM,), 0.5))
    return coder


CODERS: dict[str, Any] = {
    **{
        kind.__name__: lambda kind=kind: _autoencoder(kind, NoSparsity if kind.sets_sparsity else L1)
        for kind in _public(models, Network)
    },
    **{kind.__name__: lambda kind=kind: _autoencoder(Linear, kind) for kind in _public(sparsity, Sparsity)},
    **{kind.__name__: lambda kind=kind: _on_atoms(kind) for kind in (OMP, L1Coder, Projection)},
}


@pytest.fixture(params=CODERS)
def coder(request: pytest.FixtureRequest) -> CoderModule:
    """Each coder there is, of images."""
    torch.manual_seed(0)
    made: CoderModule = CODERS[request.param]().eval()
    made.input_shape = SHAPE
    return made


def _refusal(call: Any, *arguments: Any) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments)
    assert isinstance(error.value, ValueError)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_images_are_coded_as_the_rows_they_are(coder: CoderModule) -> None:
    z = coder.encode(ROWS)
    assert z.shape == (5, UNITS)
    assert torch.equal(z, coder.encode_rows(ROWS))
    assert torch.equal(coder.encode(IMAGES), z)
    x_hat = coder.decode(z)
    assert x_hat.shape == ROWS.shape
    assert torch.equal(coder.decode(z, shaped=True), x_hat.reshape(IMAGES.shape))


def test_any_number_of_samples(coder: CoderModule) -> None:
    for leading in ((), (1,), (0,), (2, 3), (2, 0)):
        for shape in ((DIM,), SHAPE):
            z = coder.encode(torch.rand(*leading, *shape))
            assert z.shape == (*leading, UNITS)
            assert coder.decode(z).shape == (*leading, DIM)
            assert coder.decode(z, shaped=True).shape == (*leading, *SHAPE)


def test_any_float_becomes_that_of_the_weights(coder: CoderModule) -> None:
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        given = ROWS.to(dtype)
        z = coder.encode(given)
        assert z.dtype == torch.float32
        assert torch.equal(z, coder.encode(given.float()))
        assert torch.equal(coder.decode(z.to(dtype)), coder.decode(z.to(dtype).float()))
    exact = coder.double()
    assert exact.encode(ROWS).dtype == exact.decode(exact.encode(ROWS)).dtype == torch.float64


def test_another_size_is_told_with_both_numbers(coder: CoderModule) -> None:
    expected = "(expected 24, or samples of shape (2, 3, 4))"
    for shape, values in (((3, 100), 100), ((3, 1, 4, 6), 6), ((2, 3), 3), ((24, 1), 1), ((3, 2, 4, 3), 3)):
        assert _refusal(coder.encode, torch.rand(shape)) == f"x: {values} values per sample in shape {shape} {expected}"
    assert _refusal(coder.encode, torch.tensor(0.5)) == f"x: a single number has no values per sample {expected}"
    message = "z: 24 codes per sample in shape (5, 24) (expected 64, one for each unit)"
    assert _refusal(coder.decode, ROWS) == message
    message = "z: a single number has no codes per sample (expected 64, one for each unit)"
    assert _refusal(coder.decode, torch.tensor(0.5)) == message
    coder.input_shape = (DIM,)
    assert _refusal(coder.encode, IMAGES) == "x: 4 values per sample in shape (5, 2, 3, 4) (expected 24)"


def test_what_is_no_float_has_no_scale(coder: CoderModule) -> None:
    for dtype in (torch.uint8, torch.int64, torch.bool, torch.complex64):
        name = str(dtype).removeprefix("torch.")
        message = f"x: {name} (expected floats on the scale of the training data, such as x / 255)"
        assert _refusal(coder.encode, torch.ones(5, DIM, dtype=dtype)) == message
        assert _refusal(coder.decode, torch.ones(5, UNITS, dtype=dtype)) == f"z: {name} (expected floats)"


def test_data_are_finite(coder: CoderModule) -> None:
    """Also as the coder's own type: 1e300 is none of float32. A code of NaN decodes to NaN, where it shows."""
    for value in (torch.nan, torch.inf, -torch.inf, 1e300):
        x = ROWS.double()
        x[2, 3] = value
        assert _refusal(coder.encode, x) == "x: 1 of 120 values are not finite"
    assert coder.decode(torch.full((1, UNITS), torch.nan)).isnan().all()


def test_what_is_no_tensor_of_this_machine_is_one_sentence(coder: CoderModule) -> None:
    assert _refusal(coder.encode, ROWS.tolist()) == "x: of type list (expected a torch.Tensor: torch.as_tensor(x))"
    message = "z: of type ndarray (expected a torch.Tensor: torch.as_tensor(z))"
    assert _refusal(coder.decode, np.zeros((5, UNITS))) == message
    assert _refusal(coder.encode, ROWS.to("meta")) == "x: on meta (expected cpu, as the coder's weights)"
    assert _refusal(coder.decode, torch.zeros(5, UNITS, device="meta")).startswith("z: on meta (expected cpu")
    message = "z: of layout torch.sparse_coo (expected a dense tensor: z.to_dense())"
    assert _refusal(coder.decode, torch.zeros(5, UNITS).to_sparse()) == message


def test_gradients_pass(coder: CoderModule) -> None:
    """A saliency map takes nothing but the public methods."""
    z = coder.encode(IMAGES).detach().double().requires_grad_()
    coder.decode(z, shaped=True).square().sum().backward()
    assert z.grad is not None
    assert z.grad.any()


def test_functions_of_torch_take_it(coder: CoderModule) -> None:
    """The Jacobian of each sample, for which values cannot be looked at."""
    if isinstance(getattr(coder, "network", coder), OMP | L1Coder | MatchingPursuit):
        pytest.skip("a search has no gradient, or one whose length depends on the data")
    jacobian = torch.func.vmap(torch.func.jacrev(coder.encode))(IMAGES)
    assert jacobian.shape == (5, UNITS, *SHAPE)


def test_rows_come_first_where_an_image_is_as_wide_as_it_has_values() -> None:
    coder = Projection(torch.eye(4))
    coder.input_shape = (1, 1, 4)
    assert coder.encode(torch.rand(5, 1, 1, 4)).shape == (5, 1, 1, 4)


def test_learners_take_tensors_of_floats() -> None:
    bad: dict[str, Any] = {
        "x: of type ndarray (expected a torch.Tensor: torch.as_tensor(x))": ROWS.numpy(),
        "x: float32 of shape (5, 2, 3, 4) (expected floats (B, D))": IMAGES,
        "x: uint8 of shape (5, 24) (expected floats (..., D))": ROWS.byte(),
    }
    for message, x in bad.items():
        assert _refusal(PCA(latent_dim=2).fit, x) == message
    assert _refusal(Projection, np.eye(3)) == (
        "dictionary: of type ndarray (expected a torch.Tensor: torch.as_tensor(dictionary))"
    )
    assert _refusal(Projection(torch.eye(DIM)).fit, ROWS[:, 1:]).startswith("x: 23 values per sample")


def test_a_step_of_training_checks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks cost a pass over the data and, on a GPU, a wait for it."""

    def refuse(*_: Any, **__: Any) -> Tensor:
        raise AssertionError("checked")

    monkeypatch.setattr("sparse_ae.coders.module.as_floats", refuse)
    monkeypatch.setattr("sparse_ae.coders.module.check_finite", refuse)
    model = _autoencoder(Linear, L1)
    model(ROWS, ROWS).x_hat.sum().backward()
    with pytest.raises(AssertionError, match="checked"):
        model.encode(ROWS)
