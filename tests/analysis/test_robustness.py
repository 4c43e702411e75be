"""Robustness against NumPy, scikit-learn and coders whose answer is known, and bad options."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA as ReferencePCA
from sklearn.metrics import jaccard_score
from torch import Tensor

from sparse_ae.analysis import Subject, robustness
from sparse_ae.analysis.robustness import gaussian, salt_and_pepper
from sparse_ae.analysis.statistics import distance, partners, support_change
from sparse_ae.config.build import build
from sparse_ae.config.errors import ConfigError
from sparse_ae.models import build_autoencoder
from sparse_ae.plotting.style import to_png
from sparse_ae.run.directory import Run
from sparse_ae.run.export import save_model
from tests.analysis.subjects import subject_of
from tests.helpers import plain_config

OPTIONS: dict[str, Any] = {
    "sigmas": [0, 0.1, 0.3],
    "shares": [0, 0.2],
    "clamp": True,
    "n_samples": 1000,
    "against": [],
    "pca": True,
    "n_images": 2,
}


class Scaled:
    """z = scale * x, and back."""

    def __init__(self, scale: float) -> None:
        self.scale, self.dictionary = scale, torch.eye(16) / scale

    def encode(self, x: Tensor) -> Tensor:
        return self.scale * x

    def decode(self, z: Tensor) -> Tensor:
        return z / self.scale


class Constant(Scaled):
    """The same code for all, or none."""

    def encode(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.scale)


def _subject(coder: Any, n: int = 40) -> Subject:
    generator = torch.Generator().manual_seed(4)
    base = subject_of(torch.zeros(n, 16))
    train = torch.rand(60, 16, generator=generator)
    return Subject(coder, base.sample._replace(train_rows=lambda: train))


def _saved_run(folder: Path, *, dim: int = 16) -> Run:
    """A finished run as far as loading goes: an untrained dense autoencoder."""
    config = plain_config("model=linear", "sparsity=none", "model.latent_dim=5")
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text("seed: 0\n")
    (folder / "status.json").write_text("{}")
    torch.manual_seed(0)
    specs = {"network": config["model"], "sparsity": config["sparsity"]}
    model = build_autoencoder(**specs, input_dim=dim)
    model.input_shape = (1, 4, dim // 4)
    save_model(Run(folder), model, **specs)
    return Run(folder)


def test_changes_of_codes_and_supports() -> None:
    a = torch.tensor([[3.0, 4, 0], [0, 0, 0], [0.05, 0, 0], [1, -1, 0]])
    b = torch.tensor([[3.0, 0, 0], [1, 0, 0], [0, 0, 0.05], [1, 1, 1]])
    assert distance(a, b).tolist() == pytest.approx([4, 1, 0.05 * 2**0.5, 5**0.5])
    assert sorted(partners(9).tolist()) == list(range(9))
    assert (partners(9) != torch.arange(9)).all()
    changes = support_change(a, b, threshold=0.1)
    expected = [1 - jaccard_score(a[i].abs() > 0.1, b[i].abs() > 0.1) for i in (0, 1, 3)]
    np.testing.assert_allclose(changes[[0, 1, 3]], expected)
    assert changes[2].isnan()  # no unit is active before or after


def test_noise() -> None:
    x = torch.rand(100, 400, generator=torch.Generator().manual_seed(0))
    none, some = gaussian(x, [0, 0.2], clamp=False)
    assert torch.equal(none, x)
    assert float((some - x).std()) == pytest.approx(0.2, rel=0.02)
    assert float((some - x).mean()) == pytest.approx(0, abs=0.005)
    assert torch.equal(gaussian(x, [0.2], clamp=True)[0], some.clamp(0, 1))
    none, few, all_of_it = salt_and_pepper(x, [0, 0.3, 1])
    assert torch.equal(none, x)
    hit = few != x
    assert float(hit.float().mean()) == pytest.approx(0.3, rel=0.05)
    assert set(few[hit].tolist()) == {0.0, 1.0}
    assert float(few[hit].mean()) == pytest.approx(0.5, abs=0.02)
    assert torch.equal(few[hit], all_of_it[hit])
    assert set(all_of_it.unique().tolist()) == {0.0, 1.0}


def test_a_scaled_copy_of_the_input_passes_noise_on_as_it_is() -> None:
    subject = _subject(Scaled(3.0))
    numbers = robustness.analyse(subject, **OPTIONS).numbers
    x = subject.x
    noisy = {"gaussian": gaussian(x, [0, 0.1, 0.3], clamp=True), "salt_and_pepper": salt_and_pepper(x, [0, 0.2])}
    variance = (x - subject.sample.train_rows().mean(dim=0)).square().sum()
    for kind, images in noisy.items():
        responses = numbers["coders"]["this coder"]["responses"][kind]
        apart = np.linalg.norm(x - x[partners(len(x))], axis=1).mean()
        change = [np.linalg.norm(i - x, axis=1).mean() / apart for i in images]
        np.testing.assert_allclose([r["code_change"] for r in responses], change, rtol=1e-5)
        np.testing.assert_allclose([r["code_gain"] for r in responses[1:]], 1, rtol=1e-5)
        assert responses[0]["code_gain"] is None  # without noise
        assert responses[0]["support_change"] == 0
        mse = [(i - x).square().mean() for i in images]
        np.testing.assert_allclose([r["clean_mse"] for r in responses], mse, rtol=1e-5, atol=1e-12)
        fvu = [(i - x).square().sum() / variance for i in images]
        np.testing.assert_allclose([r["clean_fvu"] for r in responses], fvu, rtol=1e-5, atol=1e-12)
    means = [numbers["coders"]["this coder"]["responses"]["gaussian"][i]["clean_fvu"] for i in (1, 2)]
    assert numbers["gaussian_clean_fvu"] == pytest.approx(np.mean(means))
    assert numbers["salt_and_pepper_code_gain"] == pytest.approx(1)
    assert numbers["strength"] == {"gaussian": [0, 0.1, 0.3], "salt_and_pepper": [0, 0.2]}


def test_pca_has_as_many_components_and_is_fitted_to_training_images() -> None:
    small = subject_of(torch.rand(30, 3))
    train = torch.rand(60, 16)
    subject = Subject(small.coder, small.sample._replace(train_rows=lambda: train))
    coders = robustness.analyse(subject, **OPTIONS).numbers["coders"]
    assert list(coders) == ["this coder", "PCA, 3 components", "the noisy input"]
    reference = ReferencePCA(3).fit(train.numpy())
    x = subject.x.numpy()
    error = ((reference.inverse_transform(reference.transform(x)) - x) ** 2).mean()
    assert coders["PCA, 3 components"]["responses"]["gaussian"][0]["clean_mse"] == pytest.approx(error, rel=1e-4)
    assert "PCA, 16 components" in robustness.analyse(_subject(Scaled(1)), **OPTIONS).numbers["coders"]
    assert len(robustness.analyse(subject, **{**OPTIONS, "pca": False}).numbers["coders"]) == 2


def test_against_other_runs(tmp_path: Path) -> None:
    runs = [_saved_run(tmp_path / "a" / "dense"), _saved_run(tmp_path / "b" / "dense")]
    result = robustness.analyse(_subject(Scaled(1)), **{**OPTIONS, "against": runs, "pca": False})
    names = ["this coder", "dense", str(tmp_path / "b" / "dense"), "the noisy input"]
    assert list(result.numbers["coders"]) == names
    assert result.numbers["coders"]["dense"] == result.numbers["coders"][names[2]]
    with pytest.raises(ValueError, match=r"^against=.*other: takes 20 values .* \(expected runs that take 16\)$"):
        robustness.analyse(_subject(Scaled(1)), **{**OPTIONS, "against": [_saved_run(tmp_path / "other", dim=20)]})


def test_figures() -> None:
    result = robustness.analyse(_subject(Scaled(1)), **OPTIONS)
    panels = result.figures["robustness"].axes
    assert len(panels) == 6
    assert [axes.get_xlabel() for axes in panels[::3]] == [
        "Gaussian noise: standard deviation",
        "salt and pepper: share of values",
    ]
    names = ["this coder", "PCA, 16 components", "the noisy input"]
    for axes in panels:
        assert [line.get_label() for line in axes.lines if not str(line.get_label()).startswith("_")] == names
    (strip,) = result.figures["strip"].axes
    texts = [text.get_text() for text in strip.texts]
    assert texts[:6] == ["the noisy input", "this coder", "PCA, 16 components"] * 2
    assert texts[6:] == [r"$\sigma$ = 0", r"$\sigma$ = 0.1", r"$\sigma$ = 0.3", "s&p 0%", "s&p 20%"]
    sheet = strip.images[0].get_array()
    first = _subject(Scaled(1)).x[10].reshape(4, 4)
    np.testing.assert_allclose(sheet[5:9, :4], sheet[:4, :4])  # this coder changes nothing
    np.testing.assert_allclose(sheet[:4, :4], first)


@pytest.mark.parametrize(("code", "n"), [(0.0, 20), (0.5, 1), (-0.5, 20)], ids=["dead", "single", "negative"])
def test_degenerate_codes(code: float, n: int) -> None:
    coder = Constant(code)
    coder.decode = lambda z: z  # type: ignore[method-assign]
    result = robustness.analyse(_subject(coder, n), **OPTIONS)
    json.dumps(result.numbers, allow_nan=False)
    dead = code == 0
    assert result.numbers["empty_codes"] == (n if dead else 0)
    assert result.numbers["gaussian_code_change"] is None  # codes of different images do not differ either
    assert result.numbers["gaussian_support_change"] == (None if dead else 0)
    for figure in result.figures.values():
        assert to_png(figure, dpi=30).startswith(b"\x89PNG")


def test_deterministic() -> None:
    first, second = (robustness.analyse(_subject(Scaled(2)), **OPTIONS).numbers for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("sigmas", [0.1, -0.2], r"sigmas=\[0.1, -0.2\]: should be greater than or equal to 0"),
        ("sigmas", [], r"sigmas=\[\]: should have at least 1 item$"),
        ("shares", [0.5, 1.5], r"shares=\[0.5, 1.5\]: should be less than or equal to 1"),
        ("against", ["no/such"], r"against=\['no/such'\]: .*no/such: no such folder"),
        ("against", "text", "against=text: should be a list$"),
    ],
)
def test_bad_options_are_one_line(option: str, value: Any, message: str) -> None:
    spec = plain_config("analysis=[robustness]")["analysis"]["robustness"]
    with pytest.raises(ConfigError, match=f"^analysis.robustness.{message}") as error:
        build({**spec, option: value}, "analysis.robustness")
    assert "\n" not in str(error.value)


def test_runs_are_opened_before_anything_is_computed(tmp_path: Path) -> None:
    spec = plain_config("analysis=[robustness]")["analysis"]["robustness"]
    folder = str(_saved_run(tmp_path / "dense").path)
    assert build({**spec, "against": [folder]}, "analysis.robustness").keywords["against"][0].path == Path(folder)
    (tmp_path / "dense" / "model.json").unlink()
    with pytest.raises(ConfigError, match=r"analysis.robustness.against=.*has no model yet"):
        build({**spec, "against": [folder]}, "analysis.robustness")
