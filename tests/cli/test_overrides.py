"""Which runs a sweep is made of, against hand-written lists."""

import shlex
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from sparse_ae.cli.overrides import fixed, for_shell, literal, of_runs, parse, read, written
from sparse_ae.config.errors import ConfigError
from sparse_ae.sweeps.grid import expand


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


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], ["a=1", "a=2"]),
        ([None, 1.0, True, False], ["a=null", "a=1.0", "a=true", "a=false"]),
        ([[256], [512, 256], []], ["a=[256]", "a=[512,256]", "a=[]"]),
        ([{"b": None}, {}], ["a={b:null}", "a={}"]),
        (["1", "1e-3", "null", "", "x, y"], ['a="1"', 'a="1e-3"', 'a="null"', 'a=""', 'a="x, y"']),
        (["out/lr=0.1", "größe#1", "it's", 'a "b"', "[1]"], None),
        (["l1", "val/mse", "bf16-true"], ["a=l1", "a=val/mse", "a=bf16-true"]),
        (None, ["a=null"]),
        (False, ["a=false"]),
        ({"b": [1, "c"]}, ["a={b:[1,c]}"]),
        # Text is read as on the command line.
        ("null,1.0", ["a=null", "a=1.0"]),
        ("[3,4],[5]", ["a=[3,4]", "a=[5]"]),
        ("lr=0.1/last.ckpt,b", ['a="lr=0.1/last.ckpt"', "a=b"]),
        ("'x,y',z", ["a='x,y'", "a=z"]),
        ("${seed}", ["a=${seed}"]),
        ("", ["a="]),
    ],
    ids=str,
)
def test_axes_of_yaml(values: Any, expected: list[str] | None) -> None:
    for params, grids in (({"a": values}, [{}]), ({}, [{"a": values}])):
        jobs = expand(params, grids, [], is_group)
        assert expected is None or [job for (job,) in jobs] == expected
        if isinstance(values, list):
            assert [value_of(job) for (job,) in jobs] == values


@pytest.mark.parametrize("values", [[], ()])
def test_an_axis_without_values_is_a_mistake(values: Any) -> None:
    with pytest.raises(ConfigError, match=r"^a=\[\]: an axis without values"):
        expand({"a": list(values)}, [{}], [], is_group)


def test_a_grid_is_picked_however_its_option_is_quoted() -> None:
    assert expand({}, [L1, {"sparsity": ["kl", "hoyer"]}], ["sparsity='kl'"], is_group) == [["sparsity='kl'"]]


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("null,true,1,1.0,1e-3", [None, True, 1, 1.0, 1e-3]),
        ("'1',\"null\",'a,b','it\\'s'", ["1", "null", "a,b", "it's"]),
        ("[1,[2,null]],{a: null, b: 'c d'}", [[1, [2, None]], {"a": None, "b": "c d"}]),
        (r"a\=b,c\ d,e:f", ["a=b", "c d", "e:f"]),
        ("choice(a,'b c',[null])", ["a", "b c", [None]]),
        ("range(0,3)", [0, 1, 2]),
        ("größe=1,b", ["größe=1", "b"]),
        ("a b,c%d", ["a b", "c%d"]),
    ],
)
def test_axes_of_the_command_line(typed: str, values: list[Any]) -> None:
    jobs = expand({}, [{}], read([f"a={typed}"]), is_group)
    assert [value_of(job) for (job,) in jobs] == values


def value_of(override: str) -> Any:
    """The value that a config has after ``override``, its interpolations resolved."""
    parsed = OverridesParser.create().parse_override(override)
    assert not parsed.is_sweep_override()
    config = OmegaConf.create({})
    OmegaConf.update(config, "value", parsed.value(), force_add=True)
    return OmegaConf.to_container(config, resolve=True)["value"]


def test_fixed() -> None:
    assert fixed(["a=1", "b=1,2", "c=[1,2]", "+d=3"]) == ["a=1", "c=[1,2]", "+d=3"]


def test_overrides_of_runs_are_those_that_are_not_hydras() -> None:
    given = ["a=1", "hydra.run.dir=x", "+hydra.launcher.n_jobs=2", "hydra/launcher=basic", "hydrant=3", "~b"]
    assert of_runs(given) == ["a=1", "hydrant=3", "~b"]


_TEXT = (
    st.text(st.characters(codec="utf-8"))
    | st.text("a1.\\'\"${} :,=~[]()\n")
    | st.sampled_from(["null", "Nan", "1e3", "/5"])
)
_KEYS = st.from_regex(r"[b-z_]+( [a-z0-9:=,%.-]+)?", fullmatch=True) | st.integers() | st.booleans()
_PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_subnormal=False)
    | _TEXT.filter(lambda text: text != "???"),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(_KEYS, values, max_size=3),
    max_leaves=5,
)


@given(_PLAIN)
def test_written_values_come_back(value: Any) -> None:
    (override,) = written({"key": value})
    assert repr(value_of(override)) == repr(value)


@pytest.mark.parametrize("key", ["it's", "größe", "1", "true", ""])
def test_keys_that_the_grammar_cannot_write(key: str) -> None:
    with pytest.raises(ConfigError, match=r"^a=.*no way to write the key"):
        written({"a": {key: 1}})


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("run=out/lr=0.1", 'run="out/lr=0.1"'),
        ("+run=größe", '+run="größe"'),
        ("hydra.run.dir=a&b;c!", 'hydra.run.dir="a&b;c!"'),
        ("hydra.run.dir=out/lr=${optimizer.lr}", 'hydra.run.dir="out/lr=${optimizer.lr}"'),
        ("run=2024", 'run="2024"'),
        ("hydra.sweep.dir=1e3", 'hydra.sweep.dir="1e3"'),
        ("a=b=1,c", 'a="b=1",c'),
        ("seed=1e3", "seed=1e3"),
        ("data.root=null", "data.root=null"),
        ("run=out/a b", "run=out/a b"),
        ("run=-out/", "run=-out/"),
        ("a=[b=1]", "a=[b=1]"),
        ("a=b (1", "a=b (1"),
        ("a b=1=2", "a b=1=2"),
        ("nonsense", "nonsense"),
    ],
)
def test_what_is_plain_is_read_as_meant_and_all_else_left_as_it_is(typed: str, expected: str) -> None:
    assert read([typed]) == [expected]


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert read(["run=~/a", "run=~", "run=a~b=c"]) == ['run="/home/me/a"', 'run="/home/me"', 'run="a~b=c"']
    assert literal("run=~/a,b") == 'run="/home/me/a,b"'


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters="'\"\\$ ~"), min_size=1))
def test_the_name_of_any_folder_is_taken_as_it_is(name: str) -> None:
    value = value_of(literal(f"run={name}"))
    assert value == name
    (word,) = shlex.split(for_shell("run", name))
    assert value_of(word) == name


@pytest.mark.parametrize("typed", ["run=a (1)", "run=a[1]", "run=it's", 'run=a"b', "run=a\\=b=c", "run=f(1)"])
def test_a_message_shows_the_quoting(typed: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(read([typed]))
    (word,) = shlex.split(refused.value.expected.partition("a text is written ")[2])
    assert value_of(word) == typed.removeprefix("run=")
