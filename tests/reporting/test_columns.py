"""Columns in which runs differ and their order, against cases worked out by hand."""

from typing import Any

import pytest

from sparse_ae.config.flat import flatten
from sparse_ae.reporting.collect import in_order, to_csv, varying
from sparse_ae.reporting.columns import as_method, as_number, flat_config, group_name
from sparse_ae.reporting.entries import Entry, Sweep
from sparse_ae.run.directory import Run


def _entry(config: dict[str, Any], **metrics: float | None) -> Entry:
    return Entry(Run(""), "a", "finished", "", {}, config, {f"test/{name}": value for name, value in metrics.items()})


def test_nested_mappings_become_dotted_keys() -> None:
    assert flatten({"a": 1, "b": {"c": {"d": [2], "e": {}}, "f": None}}) == {"a": 1, "b.c.d": [2], "b.f": None}


def test_sections_stand_under_the_option_they_were_chosen_by() -> None:
    config = {
        "seed": 3,
        "sparsity": {"_target_": "sparse_ae.sparsity.NoSparsity", "reduction": "mean"},
        "model": {"_target_": "my.models.Wide", "hidden_sizes": [8, 4]},
    }
    assert flat_config(config, {"sparsity": "none"}) == {
        "seed": 3,
        "sparsity": "none",
        "sparsity.reduction": "mean",
        "model": "wide",
        "model.hidden_sizes": [8, 4],
    }


L1: dict[str, Any] = {"sparsity": "l1", "sparsity.coefficient": 0.1, "sparsity.atom_norm": False, "seed": 1}
KL: dict[str, Any] = {"sparsity": "kl", "sparsity.coefficient": 0.1, "sparsity.rho": 0.05, "seed": 1}


@pytest.mark.parametrize(
    ("configs", "columns"),
    [
        ([L1], []),
        ([L1, L1], []),
        ([L1, L1 | {"seed": 2}], ["seed"]),
        # A key of one method alone is no news beside the method, unless it varies there.
        ([L1, KL], ["sparsity"]),
        ([L1, KL, KL | {"sparsity.rho": 0.1}], ["sparsity", "sparsity.rho"]),
        # But one that only some runs of a method have is: +sparsity.extra=1.
        ([L1, L1 | {"sparsity.extra": 1}], ["sparsity.extra"]),
        ([L1, L1 | {"scheduler": "cosine", "scheduler.final_share": 0}], ["scheduler"]),
        ([L1, L1 | {"resume": "a.ckpt"}], ["resume"]),
        # The seed comes last; what repeats it is left out, what differs from it is not.
        ([L1, L1 | {"seed": 2, "sparsity.coefficient": 1}], ["sparsity.coefficient", "seed"]),
        ([L1 | {"data.seed": 1}, L1 | {"data.seed": 2, "seed": 2}], ["seed"]),
        ([L1 | {"data.seed": 1}, L1 | {"data.seed": 2, "seed": 3}], ["data.seed", "seed"]),
        ([L1 | {"model.tied": True}, L1 | {"model.tied": 1}], ["model.tied"]),
    ],
)
def test_columns_that_vary(configs: list[dict[str, Any]], columns: list[str]) -> None:
    assert varying(configs) == columns


def test_a_classical_coder_stands_beside_methods() -> None:
    coder = {"coder": "ksvd", "coder.latent_dim": 8, "coder.epochs": 3, "coder.seed": 1, "seed": 1}
    coders = [as_method({**coder, "coder.seed": seed, "seed": seed}, units=8) for seed in (1, 2)]
    assert coders[0] == {"sparsity": "ksvd", "model.latent_dim": 8, "coder.epochs": 3, "coder.seed": 1, "seed": 1}
    assert as_method(L1, units=None) == L1
    pursuit = {"model": "matching_pursuit", "model.k": 10, "sparsity": "none", "seed": 1}
    assert as_method(pursuit, units=None) == {**pursuit, "sparsity": "matching_pursuit"}
    other = {**pursuit, "model": "own", "sparsity": "l1"}
    assert as_method(other, units=None) == other
    recoded = as_method({"coder": "omp", "coder.run": "x", "seed": 1}, units=16)
    assert recoded["model.latent_dim"] == 16
    columns = varying(
        [*coders, {**L1, "model": "mlp", "model.latent_dim": 4, "optimizer": "adam", "optimizer.lr": 1e-3}]
    )
    assert set(columns) == {"sparsity", "model.latent_dim", "seed"}
    assert len({group_name(each, columns, "model.latent_dim") for each in coders}) == 1  # repetitions of one another


def test_order_is_by_size_then_text_then_what_is_missing() -> None:
    values: list[Any] = [10, "none", 2.5, None, True, [8, 4], 1e-4]
    configs = [*({"a": value} for value in values), {}]
    ordered = in_order([_entry(config) for config in configs], ["a"])
    assert [entry.config for entry in ordered] == [
        {"a": 1e-4},
        {"a": 2.5},
        {"a": 10},
        {"a": [8, 4]},
        {"a": "none"},
        {"a": None},
        {"a": True},
        {},
    ]


def test_order_is_by_the_first_key_in_which_runs_differ_and_else_as_it_was() -> None:
    configs = [{"a": "y", "b": 10}, {"a": "x", "b": 2}, {"a": "y", "b": 9}, {"b": 2, "a": "x", "c": 3}]
    ordered = in_order([_entry(config) for config in configs], ["a", "b"])
    assert [entry.config for entry in ordered] == [configs[1], configs[3], configs[2], configs[0]]


def test_cells_of_the_table_are_what_the_configuration_says() -> None:
    values: list[Any] = [64, 1e-4, True, None, "none", "null", "64", "", [8, 4], 'x, "y"']
    entries = [_entry({"a": value, "b": 1}, l0=0.1 + 0.2) for value in values]
    entries += [_entry({"b": 1}, l0=None), _entry({}, l0=1e-20, dead_units=3)]
    rows = to_csv(Sweep(entries, ["a", "b"])).splitlines()
    assert rows[0] == "run,a,b,test/l0,test/dead_units,wall_seconds,fit_seconds,encode_microseconds,state"
    texts = ["64", "0.0001", "true", "null", "none", '"""null"""', '"""64"""', '""""""', '"[8, 4]"', '"x, ""y"""']
    assert rows[1:11] == [f"a,{text},1,0.30000000000000004,,,,,finished" for text in texts]
    assert rows[11:] == ["a,,1,,,,,,finished", "a,,,1e-20,3,,,,finished"]


@pytest.mark.parametrize("value", [True, "3", None, float("nan"), float("inf"), 10**400, [1]])
def test_what_is_no_number(value: Any) -> None:
    assert as_number(value) is None
