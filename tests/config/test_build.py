"""Specs to objects: what is converted, what is refused, and in which words."""

import functools
from typing import Any

import pytest
import torch

from sparse_ae.config.build import build
from sparse_ae.config.errors import NOT_GIVEN, ConfigError, ConfigErrors
from sparse_ae.models import MLP

SPEC = {"_target_": "sparse_ae.models.MLP", "latent_dim": 4, "hidden_sizes": [3]}


def test_builds_converts_and_fills_in() -> None:
    mlp = build(SPEC | {"latent_dim": "4"}, "model", input_dim=5)
    assert isinstance(mlp, MLP)
    assert mlp.latent_dim == 4


def test_partial_binds() -> None:
    make = build({"_target_": "torch.optim.SGD", "_partial_": True, "lr": 1}, "optimizer")
    assert isinstance(make, functools.partial)
    assert make([torch.nn.Parameter(torch.zeros(1))]).defaults["lr"] == 1.0


def test_nested_specs_are_built_first() -> None:
    noise = {"_target_": "torchvision.transforms.v2.GaussianNoise", "sigma": 0.5}
    compose = build({"_target_": "torchvision.transforms.v2.Compose", "transforms": [noise]}, "t")
    assert compose.transforms[0].sigma == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"latent_dims": 3},
            r"^model\.latent_dims: no such key; did you mean latent_dim\? \(expected hidden_sizes, ",
        ),
        ({"latent_dim": 0}, r"^model\.latent_dim=0: should be greater than 0$"),
        ({"latent_dim": "many"}, r"^model\.latent_dim=many: should be a valid integer"),
        ({"latent_dim": 2.5}, r"^model\.latent_dim=2\.5: should be a valid integer"),
        ({"latent_dim": None}, r"^model\.latent_dim=null: should be a valid integer"),
        ({"hidden_sizes": 3}, r"^model\.hidden_sizes=3: should be a valid list$"),
        ({"hidden_sizes": [3, -1]}, r"^model\.hidden_sizes=\[3, -1\]: should be greater than 0$"),
        (
            {"_target_": "sparse_ae.models.MLQ"},
            r"^model\._target_=sparse_ae\.models\.MLQ: cannot be imported",
        ),
        ({"_target_": "nowhere.X"}, r"^model\._target_=nowhere\.X: cannot be imported"),
        ({"_target_": "sparse_ae.models.linear.__doc__"}, r"not a class or function$"),
    ],
)
def test_mistakes_are_one_line_with_key_value_and_what_is_allowed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        build(SPEC | change, "model", input_dim=5)
    assert "\n" not in str(error.value)


def test_missing_argument() -> None:
    for spec in ({}, {"_partial_": True}):
        with pytest.raises(ConfigError, match=r"^model\._target_: is required and was not given$"):
            build(spec, "model")
    with pytest.raises(ConfigError, match=r"^model\.input_dim: is required and was not given$"):
        build({"_target_": "sparse_ae.models.MLP", "latent_dim": 4}, "model")


def test_what_a_constructor_objects_to_gets_the_key() -> None:
    with pytest.raises(ConfigError, match=r"^t: year 0 is out of range"):
        build({"_target_": "datetime.date", "year": 0, "month": 1, "day": 1}, "t")


def test_any_other_exception_of_a_constructor_is_a_bug_and_looks_like_one() -> None:
    with pytest.raises(RuntimeError, match="nonsense"):
        build({"_target_": "torch.device", "type": "nonsense"}, "t")


def test_all_mistakes_of_a_spec_at_once() -> None:
    with pytest.raises(ConfigErrors) as raised:
        build(SPEC | {"latent_dim": 0, "hidden": [1], "hidden_sizes": [-1]}, "model", input_dim=5)
    assert [(error.key, error.value) for error in raised.value.errors] == [
        ("model.hidden", NOT_GIVEN),
        ("model.latent_dim", 0),
        ("model.hidden_sizes", [-1]),
    ]
    assert str(raised.value).count("\n") == 2
