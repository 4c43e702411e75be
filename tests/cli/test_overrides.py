"""Which runs a sweep is made of, against hand-written lists."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from sparse_ae.cli.overrides import fixed, of_runs, written
from sparse_ae.config.errors import ConfigError
from sparse_ae.sweep.plan import expand


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
    with pytest.raises(ConfigError, match="expected"):
        expand({}, [{}], [argument], is_group)


def test_a_list_is_an_axis_as_text_with_commas_is() -> None:
    params = OmegaConf.create({"a": [1, 2], "b": "[3,4]"})
    assert expand(params, [{}], [], is_group) == [["a=1", "b=[3,4]"], ["a=2", "b=[3,4]"]]


def test_fixed() -> None:
    assert fixed(["a=1", "b=1,2", "c=[1,2]", "+d=3"]) == ["a=1", "c=[1,2]", "+d=3"]


def test_overrides_of_runs_are_those_that_are_not_hydras() -> None:
    given = ["a=1", "hydra.run.dir=x", "+hydra.launcher.n_jobs=2", "hydra/launcher=basic", "hydrant=3", "~b"]
    assert of_runs(given) == ["a=1", "hydrant=3", "~b"]


_ORDINARY = st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters="$")  # $ interpolates


@given(st.text(_ORDINARY, min_size=1) | st.text("a\\' ", min_size=1))
def test_written_values_come_back(value: str) -> None:
    (override,) = written({"key": value})
    assert OverridesParser.create().parse_override(override).value() == value
