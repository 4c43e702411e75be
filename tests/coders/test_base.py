"""Contract of every classical coder: defaults, shapes, and one sentence for sizes that do not go together."""

import inspect
from typing import Any

import pytest
import torch

from sparse_ae import coders
from sparse_ae.coders import (
    KSVD,
    OMP,
    PCA,
    DataAtoms,
    DictionaryCoder,
    L1Coder,
    OnlineDictionaryLearning,
    Projection,
    RandomAtoms,
)
from sparse_ae.config.errors import ConfigErrors

CODERS: list[Any] = [OMP, L1Coder, Projection]
LEARNERS: list[Any] = [PCA, KSVD, OnlineDictionaryLearning, RandomAtoms, DataAtoms]


def test_every_public_class_is_tested_here() -> None:
    public = {getattr(coders, name) for name in coders.__all__}
    assert {kind for kind in public if not inspect.isabstract(kind)} - {coders.Coder} == {*CODERS, *LEARNERS}


@pytest.fixture
def atoms() -> torch.Tensor:
    return torch.randn(24, 20, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", CODERS)
def test_leading_dimensions_are_kept(kind: Any, atoms: torch.Tensor) -> None:
    x = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(1))
    coder = kind(atoms, mean=torch.linspace(-1, 1, 20))
    z = coder.encode(x)
    assert z.shape == (2, 3, 24)
    assert coder.decode(z).shape == x.shape
    torch.testing.assert_close(z.flatten(0, 1), coder.encode(x.flatten(0, 1)))
    torch.testing.assert_close(coder.encode(x[0, 0]), z[0, 0], atol=1e-3, rtol=1e-3)  # L1 stops with its batch


@pytest.mark.parametrize("kind", CODERS)
def test_other_sizes_than_the_atoms_are_one_sentence(kind: Any, atoms: torch.Tensor) -> None:
    coder: DictionaryCoder = kind(atoms)
    with pytest.raises(ValueError, match=r"^its atoms have 20 values, and the data 9 \(expected the same number\)$"):
        coder.check(samples=3, dim=9)
    with pytest.raises(ValueError, match=r"^mean: 9 values per sample \(expected 20, as in the dictionary\)$"):
        kind(atoms, mean=torch.ones(9))


@pytest.mark.parametrize("kind", CODERS)
def test_its_arguments_make_it_again(kind: Any, atoms: torch.Tensor) -> None:
    coder = kind(atoms)
    again = kind(coder.dictionary, mean=coder.mean, **coder.arguments)
    x = torch.randn(5, 20, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again.encode(x), coder.encode(x))
    assert coder.fit(x) is coder


def test_a_pursuit_has_32_atoms_by_default_or_all() -> None:
    assert OMP(torch.eye(40)).arguments == {"k": 32, "tolerance": None, "selection": "correlation", "positive": False}
    assert OMP(torch.eye(5)).arguments["k"] == 5
    assert OMP(torch.eye(40), tolerance=0.5).arguments["k"] is None


@pytest.mark.parametrize("kind", LEARNERS)
def test_every_option_has_a_default(kind: Any) -> None:
    learner = kind()
    for name in inspect.signature(kind).parameters:
        assert hasattr(learner, name)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigErrors) as error:
        KSVD(latent_dim=0, epochs=-1, forgetting=2)
    assert str(error.value).splitlines() == [
        "latent_dim=0: should be greater than 0",
        "epochs=-1: should be greater than 0",
        "forgetting=2: should be less than or equal to 1",
    ]
    with pytest.raises(TypeError, match="unexpected keyword argument 'k'"):
        KSVD(k=3)  # type: ignore[call-arg]
