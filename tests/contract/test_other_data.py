"""Every analysis on data other than grey images with labels: vectors, colour, text, without classes, in other units."""

import io
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from sparse_ae.analysis import Result, Subject
from sparse_ae.analysis.base import NoClassesError
from sparse_ae.analysis.tensorboard import projector_files
from sparse_ae.config.build import build
from sparse_ae.config.errors import ConfigError
from sparse_ae.plotting.style import to_png
from sparse_ae.run.directory import Run
from sparse_ae.run.export import save_coder
from tests.analysis.other_data import atoms_by_ksvd, autoencoder, crops, digits, subject_on
from tests.analysis.texts import Words
from tests.helpers import CONF

SPECS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CONF / "analysis").glob("*.yaml"))}
QUICK: dict[str, dict[str, Any]] = {
    "amortisation": {"timed_seconds": 0.001, "n_samples": 100},
    "probe": {"classifiers": ["logistic"], "labels_per_class": [5], "draws": 2, "c": [10], "n_choose": 100},
    "robustness": {"n_samples": 100},
    "selectivity": {"permutations": 20},
    "truncation": {"n_samples": 100},
}
"""Options that save time."""


def _on_text() -> Subject:
    """Rows that are the words of a text: eleven different ones, in passages of twenty."""
    subject = subject_on((digits()[0], None), (64,), autoencoder)
    words = [f"w{i * i % 17}" for i in range(len(subject.x))]
    text = Words(*(" ".join(words[start : start + 20]) for start in range(0, len(words), 20)))
    return Subject(subject.coder, subject.sample._replace(text=text))


DATA: dict[str, Callable[[], Subject]] = {
    "vectors without classes": lambda: subject_on((digits()[0] - 5, None), (64,), atoms_by_ksvd),
    "vectors": lambda: subject_on(digits(), (64,), autoencoder),
    "colour": lambda: subject_on(crops(), (3, 12, 12), autoencoder),
    "text": _on_text,
}
NEED_CLASSES = ("selectivity", "probe")
NEED_IMAGES = {"gabor"}
NEED_LANGUAGE = {"loss_recovered"}
NEED_TRUTH = {"recovery"}


@pytest.fixture(scope="module")
def subjects() -> dict[str, Subject]:
    """Each subject once: a coder is learned in a second."""
    return {name: make() for name, make in DATA.items()}


@pytest.fixture(scope="module")
def others(subjects: dict[str, Subject], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A second coder of the same data as a run, to be compared with."""
    runs = {}
    for name, subject in subjects.items():
        runs[name] = Run(tmp_path_factory.mktemp("other") / "ksvd")
        runs[name].path.mkdir()
        coder = atoms_by_ksvd(subject.sample.train_rows(), seed=1)
        coder.input_shape = subject.sample.shape
        save_coder(runs[name], coder)
    return runs


def _is_drawn(axes: Axes) -> bool:
    """True for a panel with something in it: data, no picture of blanks alone, or the reason why there are none."""
    sheets = [np.ma.masked_invalid(image.get_array()) for image in axes.images]
    return (axes.has_data() or bool(axes.texts)) and all(sheet.count() for sheet in sheets)


WITHOUT_PICTURES = {"amortisation", "probe", "sparsity"}
CASES = [
    *[(name, "vectors without classes") for name in SPECS if name != "overview"],  # which consists of others
    *[(name, "vectors") for name in NEED_CLASSES],
    *[(name, "colour") for name in SPECS if name not in {"overview", *WITHOUT_PICTURES}],
]
"""Analyses with the data that are something else to them."""
OF_TEXT = {
    "amortisation": {"errors"},
    "features": {"contexts"},
    "importance": {"importance", "contexts"},
    "overview": {"sparsity", "contexts"},
    "reconstructions": {"reconstructions"},
    "robustness": {"robustness"},
    "selectivity": {"tokens", "shares"},
    "similarity": {"cosines", "map", "nearest"},
    "stability": {"matched_cosines"},
    "truncation": {"truncation"},
}
"""Figures of text: its rows and atoms say nothing to a reader as pictures."""


def _check(result: Result, data: str) -> None:
    json.dumps(result.numbers, allow_nan=False)
    assert result.figures
    for name, figure in result.figures.items():
        assert figure.axes, name
        png = Image.open(io.BytesIO(to_png(figure, dpi=25)))
        png.load()
        assert max(png.size) < 25 * 20, name
        assert all(map(_is_drawn, figure.axes)), name
        if data.startswith("vectors"):
            texts = [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]
            assert not [text for text in texts if "image" in text or "pixel" in text], name


@pytest.mark.parametrize(("name", "data"), CASES)
def test_every_analysis_of_any_data(name: str, data: str, subjects: dict[str, Subject], others: dict[str, Run]) -> None:
    options = QUICK.get(name, {}) | ({"runs": [others[data]]} if name == "stability" else {})
    spec = {key: value for key, value in (SPECS[name] | options).items() if key != "runs"}
    analyse = build(spec, f"analysis.{name}")
    given = {"runs": options["runs"]} if "runs" in options else {}
    if name in NEED_CLASSES and subjects[data].label is None:
        with pytest.raises(NoClassesError) as error:
            analyse(subjects[data], **given)
        assert str(error.value) == f"data.labels: {name} needs classes, and the data have none"
        return
    if name in NEED_IMAGES and len(subjects[data].sample.shape) == 1:
        with pytest.raises(ConfigError, match=f"{name} fits images, and the rows are vectors"):
            analyse(subjects[data], **given)
        return
    if name in NEED_LANGUAGE:
        with pytest.raises(ConfigError, match=f"^data: {name} needs a language model, and the data have none"):
            analyse(subjects[data], **given)
        return
    if name in NEED_TRUTH:
        with pytest.raises(ConfigError, match=f"^data: {name} needs the true features, and the data have none"):
            analyse(subjects[data], **given)
        return
    result = analyse(subjects[data], **given)
    _check(result, data)
    if result.embedding is not None:
        files = projector_files(result.embedding)
        sprite = Image.open(io.BytesIO(files["projector.sprite"]))
        assert sprite.mode == ("RGB" if data == "colour" else "L")
        assert sprite.getextrema()


@pytest.mark.parametrize("name", OF_TEXT)
def test_text_is_shown_as_text_and_not_as_pictures(
    name: str, subjects: dict[str, Subject], others: dict[str, Run]
) -> None:
    given = {"runs": [others["text"]]} if name == "stability" else {}
    spec = {key: value for key, value in (SPECS[name] | QUICK.get(name, {})).items() if key != "runs"}
    result = build(spec, f"analysis.{name}")(subjects["text"], **given)
    _check(result, "vectors of text")
    assert set(result.figures) == OF_TEXT[name]
    assert not [figure for figure, drawn in result.figures.items() if figure != "cosines" and _has_pictures(drawn)]
    if result.embedding is not None:
        assert set(projector_files(result.embedding)) == {"projector_vectors.tsv", "projector_labels.tsv"}
        assert all(re.search(r", token w\d+$", label) for label in result.embedding.labels)


def _has_pictures(figure: Figure) -> bool:
    return any(axes.images for axes in figure.axes)
