"""Labels, errors and means that analyses share, and how results are written."""

import inspect
import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml

from sparse_ae.analysis import Label, Result, loading
from sparse_ae.analysis.base import labels_of
from sparse_ae.analysis.loading import read_run
from sparse_ae.analysis.statistics import difference, mean_defined
from sparse_ae.analysis.write import write_analyses
from sparse_ae.config.build import locate
from sparse_ae.config.errors import ConfigError
from sparse_ae.run.directory import Run
from tests.analysis.subjects import subject_of
from tests.helpers import CONF

SPECS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CONF / "analysis").glob("*.yaml"))}


class Numbers(NamedTuple):
    """Numbers with and without a label."""

    plain: int
    second: Annotated[float | None, "a comment", Label("the second")]
    first: Annotated[int, Label("the first")]


def test_labels_stand_in_the_order_of_the_fields() -> None:
    assert labels_of(Numbers) == {"second": "the second", "first": "the first"}
    result = Result.of(Numbers(1, None, 3), {})
    assert result.numbers == {"plain": 1, "second": None, "first": 3}
    assert list(result.labels) == ["second", "first"]


@pytest.mark.parametrize("name", SPECS)
def test_every_analysis_names_its_numbers_in_its_own_file(name: str) -> None:
    analyse = locate(SPECS[name]["_target_"], name)
    module = inspect.getmodule(analyse)
    assert module is not None
    assert module.__name__ == f"sparse_ae.analysis.{name}"
    labels = labels_of(module.Numbers)
    assert 1 <= len(labels) <= 6  # panels of one figure
    assert labels.keys() <= set(module.Numbers._fields)
    assert len(set(labels.values())) == len(labels)


@pytest.mark.parametrize("name", SPECS)
def test_every_option_has_the_default_of_its_yaml(name: str) -> None:
    def plain(value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value

    subject, *parameters = inspect.signature(locate(SPECS[name]["_target_"], name)).parameters.values()
    assert subject.name == "subject"
    options = {key: value for key, value in SPECS[name].items() if not key.startswith("_")}
    assert {parameter.name: plain(parameter.default) for parameter in parameters} == options


def test_the_mean_is_of_what_is_defined() -> None:
    assert mean_defined([1.0, None, 2.0]) == 1.5
    assert mean_defined(torch.tensor([torch.nan, 3.0])) == 3
    assert mean_defined(np.array([[1, np.nan], [3, 5]])) == 3
    assert mean_defined([None, None]) is None
    assert mean_defined(np.zeros(0)) is None
    assert difference(3, 1) == 2
    assert difference(None, 1) is None


def test_labels_are_written_beside_the_numbers(tmp_path: Path) -> None:
    write_analyses(Run(tmp_path), subject_of(torch.rand(5, 3)), {"mine": SPECS["overview"]}, variant="best")
    written = json.loads((tmp_path / "analysis" / "mine-best" / "result.json").read_text())
    assert written["labels"] == {"mse": "MSE (per value)"}
    assert written["units"] == 3


@pytest.mark.slow
def test_codes_that_do_not_fit_cut_the_sample_and_it_is_said(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = read_run(Run(finished_run), weights="final", threshold=None, device="cpu")
    whole = loading.test_sample(stored.coder, stored.data, "cpu", 0.1)
    assert (len(whole.x), whole.left_out) == (10_000, "")
    most = int(stored.coder.encode(whole.x[:2000]).count_nonzero())
    monkeypatch.setattr(loading, "MOST_CODES", most)
    sample = loading.test_sample(stored.coder, stored.data, "cpu", 0.1)
    n = len(sample.x)
    assert n == pytest.approx(2000, rel=0.1)
    assert torch.equal(sample.x, whole.x[:n])
    assert sample.label is not None
    assert len(sample.label) == n
    expected = f"model.latent_dim=128: analyses take the first {n:,} of 10,000 test rows, {most:,} codes != 0"
    assert sample.left_out == expected
    monkeypatch.setattr(loading, "_MOST_VALUES", 784 * 50)
    sample = loading.test_sample(stored.coder, stored.data, "cpu", 0.1)
    assert sample.left_out == "data: analyses take the first 50 of 10,000 test rows, 39,200 values"
    assert len(sample.train_rows()) == 50


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            SPECS["selectivity"] | {"permutations": 3},
            "analysis.mine.permutations=3: too few for alpha=0.05 (expected 20 or more)",
        ),
        (
            SPECS["amortisation"],
            "analysis.mine: a sample has 300 codes != 0 (expected up to 256)",
        ),
        (
            SPECS["probe"] | {"pool": 2},
            "analysis.mine.pool=2: moves as far as half an image (expected 0 to 1)",
        ),
    ],
)
def test_objections_of_an_analysis_name_the_key_in_the_config(spec: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        write_analyses(Run(tmp_path), subject_of(torch.ones(4, 300)), {"mine": spec})
    assert str(error.value) == message
    assert not (tmp_path / "analysis").exists()
