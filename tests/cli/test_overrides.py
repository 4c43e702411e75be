"""Which runs a sweep is made of, against hand-written lists."""

import pytest
from omegaconf import OmegaConf

from sparse_ae.cli.overrides import expand, without_sweeps
from sparse_ae.config.errors import ConfigError


def is_group(key: str) -> bool:
    return key in ("sparsity", "model")


L1 = {"sparsity": "l1", "sparsity.coefficient": "0.01,0.1"}
KL = {"sparsity": "kl", "sparsity.rho": 0.05}


@pytest.mark.parametrize(
    ("params", "grids", "arguments", "expected"),
    [
        ({}, [{}], ["a=1", "b=2"], [["a=1", "b=2"]]),
        ({}, [{}], ["a=1,2", "b=3,4"], [["a=1", "b=3"], ["a=1", "b=4"], ["a=2", "b=3"], ["a=2", "b=4"]]),
        ({"a": "1,2"}, [{}], [], [["a=1"], ["a=2"]]),
        ({"a": "1,2"}, [{}], ["a=3"], [["a=3"]]),  # the command line replaces an axis
        ({"a": "1,2"}, [{}], ["b=3"], [["a=1", "b=3"], ["a=2", "b=3"]]),  # and adds to them
        ({"a": "1,2,1"}, [{}], [], [["a=1"], ["a=2"]]),  # none twice
        ({}, [{}], ["a=range(1,4)"], [["a=1"], ["a=2"], ["a=3"]]),
        (
            {"seed": "1,2"},
            [L1, KL],
            [],
            [
                ["seed=1", "sparsity=l1", "sparsity.coefficient=0.01"],
                ["seed=1", "sparsity=l1", "sparsity.coefficient=0.1"],
                ["seed=2", "sparsity=l1", "sparsity.coefficient=0.01"],
                ["seed=2", "sparsity=l1", "sparsity.coefficient=0.1"],
                ["seed=1", "sparsity=kl", "sparsity.rho=0.05"],
                ["seed=2", "sparsity=kl", "sparsity.rho=0.05"],
            ],
        ),
        ({}, [L1, KL], ["sparsity=kl"], [["sparsity=kl", "sparsity.rho=0.05"]]),  # picks the grid
        (
            {},
            [L1, KL],
            ["sparsity.coefficient=5"],
            [["sparsity=l1", "sparsity.coefficient=5"], ["sparsity=kl", "sparsity.rho=0.05", "sparsity.coefficient=5"]],
        ),
    ],
)
def test_expand(params: dict, grids: list, arguments: list[str], expected: list[list[str]]) -> None:
    assert expand(params, grids, arguments, is_group) == expected


@pytest.mark.parametrize("argument", ["a=interval(0,1)", "nonsense"])
def test_what_is_no_list_of_values(argument: str) -> None:
    with pytest.raises(ConfigError, match="allowed"):
        expand({}, [{}], [argument], is_group)


def test_a_list_is_an_axis_as_text_with_commas_is() -> None:
    params = OmegaConf.create({"a": [1, 2], "b": "[3,4]"})
    assert expand(params, [{}], [], is_group) == [["a=1", "b=[3,4]"], ["a=2", "b=[3,4]"]]


def test_without_sweeps() -> None:
    assert without_sweeps(["a=1", "b=1,2", "c=[1,2]", "+d=3"]) == ["a=1", "c=[1,2]", "+d=3"]
