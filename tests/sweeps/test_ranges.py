"""Ranges of a search: what Hydra's grammar writes, as numbers and choices, and back into overrides."""

import pytest

from sparse_ae.config.errors import ConfigError
from sparse_ae.sweeps.ranges import Choices, Numbers, Space, space


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("interval(1e-4,1)", Numbers(0.0001, 1.0)),
        ("tag(log,interval(1e-4,1))", Numbers(0.0001, 1.0, log=True)),
        ("int(interval(1,64))", Numbers(1, 64, 1)),
        ("range(1,64)", Numbers(1, 63, 1)),  # without its stop, as in a grid
        ("range(16,65,16)", Numbers(16, 64, 16)),
        ("range(16,64,16)", Numbers(16, 48, 16)),
        ("tag(log,range(1,65))", Numbers(1, 64, 1, log=True)),
        ("range(0,1,0.1)", Numbers(0.0, 0.9, 0.1)),
        ("l1,kl", Choices(("l1", "kl"))),
        ("true,null,2", Choices(("true", "null", "2"))),
        ("[1,2],[3]", Choices(("[1,2]", "[3]"))),
    ],
)
def test_range(text: str, expected: Numbers | Choices) -> None:
    found = space({}, [f"a={text}"])
    assert found == Space([], {"a": expected})
    assert isinstance(expected, Choices) or [type(end) for end in found.ranges["a"]] == [type(end) for end in expected]
    assert space({"a": text}, []) == found


def test_arguments_replace_params_and_one_value_is_no_range() -> None:
    found = space({"a": "interval(0,1)", "b": [1, "x,y"], "c": 3, "e": "1,1"}, ["a=2", "d=1,2"])
    assert found.fixed == ["a=2", "c=3", "e=1"]
    assert found.ranges == {"b": Choices(("1", '"x,y"')), "d": Choices(("1", "2"))}
    assert found.overrides({"b": '"x,y"', "d": "1"}) == ["a=2", "c=3", "e=1", 'b="x,y"', "d=1"]


def test_numbers_are_written_with_every_digit() -> None:
    found = space({}, ["+a.b=interval(0,1)", "c=range(1,9)"])
    assert found.own({"+a.b": 0.1 + 0.2, "c": 3}) == ["+a.b=0.30000000000000004", "c=3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=interval(1,0)", r"a=interval\(1,0\): holds no number \(expected the smaller end first\)"),
        ("a=range(5,1)", r"a=range\(5,1\): holds no number"),
        ("a=range(5,5)", r"a=range\(5,5\): holds no number"),
        ("a=range(9,1,-2)", r"a=range\(9,1,-2\): holds no number"),
        ("a=interval(0,inf)", r"a=interval\(0,inf\): its ends should be finite numbers"),
        ("a=tag(log,interval(0,1))", r"a=.*: a logarithmic scale has no 0 \(expected a lower end above 0\)"),
        ("a=tag(log,range(1,9,2))", r"a=.*: a logarithmic scale has no steps of 2"),
        ("a=tag(log,choice(1,2))", r"a=.*: single values have no scale"),
        ("a=tag(lin,interval(1,2))", r"a=.*: no such tag: lin"),
        ("a=(1", r"a=\(1: not a valid override"),
        ("a=1", r"hydra/sweeper=search: a search chooses from ranges, and there is none"),
        ("experiment=default,grid", r"experiment: a search has one value of it"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        space({}, [text])


def test_what_belongs_to_the_sweep_is_no_range() -> None:
    for key, message in {"threads": "a search has one value of it", "hydra.verbose": "is of the sweep"}.items():
        with pytest.raises(ConfigError, match=message):
            space({key: "1,2"}, [])
