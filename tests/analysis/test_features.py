"""Features against loops, closed forms and hand-made codes, and on degenerate codes."""

import json
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from sparse_ae.analysis import Result, Sample, Subject, features
from sparse_ae.analysis.features import encoder_filters, mean_jacobian
from sparse_ae.config.build import build
from sparse_ae.data.scale import Moments, Scale
from sparse_ae.models import MLP, MatchingPursuit, SparseAutoencoder, build_autoencoder
from sparse_ae.plotting.mosaic import feature_grid
from sparse_ae.plotting.style import to_png
from sparse_ae.sparsity import NoSparsity
from tests.analysis.subjects import FixedCoder, subject_of
from tests.helpers import CONF, plain_config

OPTIONS = {
    key: value
    for key, value in yaml.safe_load((CONF / "analysis" / "features.yaml").read_text()).items()
    if not key.startswith("_")
}


class SigmoidCoder(FixedCoder):
    """A decoder that is not linear."""

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(z @ self.dictionary - 1)


def _subject(coder: Any, x: Tensor) -> Subject:
    label = torch.arange(len(x)) % 3
    return Subject(coder, Sample(x, label, (1, 4, 4), 0.1, lambda: x, lambda split: (x, label)))


def _run(subject: Subject, **options: Any) -> Result:
    return features.analyse(subject, **{**OPTIONS, **options})


def _sheet(figure: Figure) -> AxesImage:
    return figure.axes[0].images[0]


def _labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def _autoencoder(model: str, sparsity: str = "l1") -> SparseAutoencoder:
    torch.manual_seed(0)
    config = plain_config(f"model={model}", f"sparsity={sparsity}", "model.latent_dim=6", "data.batch_size=8")
    network = {**config["model"], **({"hidden_sizes": [5]} if model == "mlp" else {})}
    sizes = {name: 2 for name in ("k", "k_start") if name in config["sparsity"]}
    sizes |= {"prefixes": [2, 6]} if "prefixes" in config["sparsity"] else {}
    return build_autoencoder(network, config["sparsity"] | sizes, input_dim=16).eval()


def test_atom_numbers_by_hand() -> None:
    atoms = torch.zeros(3, 16)
    atoms[0, 0], atoms[1, 1] = 2.0, 1.0
    atoms[2, :2] = 3.0
    numbers = _run(subject_of(torch.ones(2, 3), atoms), n_features=2).numbers
    assert numbers["units"] == 3
    assert numbers["shown"] == 2
    assert numbers["atom_norm"]["min"] == 1
    assert numbers["atom_norm"]["max"] == pytest.approx(18**0.5)


@pytest.mark.parametrize("signed", [False, True])
def test_differences_and_contributions_against_loops(signed: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    z, atoms = torch.randn(31, 5, generator=generator), torch.randn(5, 16, generator=generator)
    z = z if signed else torch.relu(z - 0.3)
    z[:, 2] = 0
    x = torch.rand(31, 16, generator=generator)
    subject = _subject(SigmoidCoder(x, z, atoms), x)
    units = features.measure_units(subject)
    for i in range(5):
        if i == 2:
            assert units.dead[i]
            assert units.typical[i].isnan()
            assert units.difference[i].isnan().all()
            assert units.contribution[i] == 0
            continue
        own = abs(z[:, i].numpy())
        typical = np.quantile(own[own != 0], 0.5, method="lower")
        alone = 1 / (1 + np.exp(1 - typical * atoms[i].numpy())) - 1 / (1 + np.exp(1))
        assert units.typical[i] == pytest.approx(typical)
        np.testing.assert_allclose(units.difference[i], alone, atol=1e-6)
        assert units.contribution[i] == pytest.approx(own.mean() * np.linalg.norm(alone) / typical, rel=1e-5)
        assert units.lifetime[i] == pytest.approx((z[:, i].abs() > 0.1).double().mean().item())
    result = _run(subject)
    assert set(result.figures) == {"features", "differences", "top_images"}  # nothing to read filters from
    assert result.numbers["filter_cosine"] is None
    assert result.numbers["dead_units"] == 1
    contribution = sorted(units.contribution.tolist(), reverse=True)
    (fewest,) = (n for n in range(1, 6) if sum(contribution[: n - 1]) < sum(contribution) / 2 <= sum(contribution[:n]))
    assert result.numbers["half_contribution_units"] == fewest


def test_the_differences_of_a_linear_decoder_are_its_atoms_and_not_drawn_again() -> None:
    generator = torch.Generator().manual_seed(1)
    z, atoms = torch.rand(20, 3, generator=generator), torch.randn(3, 16, generator=generator)
    result = _run(subject_of(z, atoms), order="index")
    assert set(result.figures) == {"features", "top_images"}
    typical = result.arrays["typical_activation"]
    np.testing.assert_allclose(result.arrays["differences"], typical[:, None] * atoms.numpy(), atol=1e-5)
    np.testing.assert_allclose(result.arrays["contribution"], z.mean(0) * atoms.norm(dim=1), rtol=1e-5)


@pytest.mark.parametrize(
    ("order", "expected"), [("index", [0, 1, 2, 3]), ("lifetime", [2, 0, 3, 1]), ("contribution", [3, 0, 2, 1])]
)
def test_order_puts_dead_units_last_and_marks_them(order: str, expected: list[int]) -> None:
    z = torch.zeros(10, 4)
    z[:5, 0], z[:9, 2], z[:1, 3] = 1, 0.2, 100  # unit 1 is dead
    result = _run(subject_of(z, torch.ones(4, 16)), order=order)
    assert result.arrays["shown"].tolist() == expected
    names = {0: "0: 0.5", 1: "1: dead", 2: "2: 0.9", 3: "3: 0.1"}
    assert _labels(result.figures["features"]) == [names[i] for i in expected]
    assert len(result.figures["features"].axes[0].lines) == 2  # one cross


def test_top_images_are_those_with_the_largest_codes_above_0() -> None:
    z = torch.zeros(6, 3)
    z[:, 0] = torch.tensor([0.1, 0.5, 0.3, -9.0, 0.4, 0.2])
    z[4, 1] = 2
    subject = subject_of(z, label=torch.tensor([0, 1, 2, 3, 4, 5]))
    result = _run(subject, top_units=[1, 0, 2], top_images=3)
    assert result.arrays["top_images"][0].tolist() == [1, 4, 2]
    figure = result.figures["top_images"]
    first, second, third = ["1: 0.17", "4 (2)"], ["0: 0.83", "1 (0.5)", "4 (0.4)", "2 (0.3)"], ["2: dead"]
    assert _labels(figure) == [*first, *second, *third]
    assert len(figure.axes[0].lines) == 2
    units, images = figure.axes[0].images
    assert units.get_clim() == (-1, 1)
    assert units.get_array()[:, 4:].mask.all()  # after the atom of 4 pixels, a gap of 1 and one of 4 // 3
    np.testing.assert_array_equal(images.get_array()[:4, 6:10], subject.x[4].reshape(4, 4))
    assert images.get_array()[:4, 11:].mask.all()  # no other image activates that unit
    everything = _sheet(_run(subject, top_units=2, top_images=99).figures["top_images"]).get_array()
    assert everything.shape[1] == 1 + 5 * (1 + 6) - 1
    with pytest.raises(ValueError, match=r"^top_units=\[3\]: not units of the coder \(expected 0 to 2\)$"):
        _run(subject, top_units=[3])


def test_mean_jacobian_of_a_sigmoid_layer() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(70, 16, generator=generator, dtype=torch.float64)
    x = torch.rand(9, 16, generator=generator, dtype=torch.float64)
    units = torch.arange(69, -1, -1)
    z = torch.sigmoid(x @ weight.T)
    expected = (z * (1 - z)).mean(dim=0)[:, None] * weight
    found = mean_jacobian(lambda images: torch.sigmoid(images @ weight.T), x, units)
    np.testing.assert_allclose(found, expected[units])


@pytest.mark.parametrize("sparsity", sorted(path.stem for path in (CONF / "sparsity").glob("*.yaml")))
def test_filters_of_a_perceptron_are_its_mean_jacobian_whatever_the_method(sparsity: str) -> None:
    model = _autoencoder("mlp", sparsity)
    x = torch.rand(5, 16, generator=torch.Generator().manual_seed(0))
    one_by_one = [torch.autograd.functional.jacobian(lambda image: model.encode(image[None])[0], image) for image in x]
    expected = torch.stack(one_by_one).mean(dim=0)
    filters = encoder_filters(_subject(model, x), torch.arange(6))
    assert filters is not None
    np.testing.assert_allclose(filters.weight.nan_to_num(), expected, atol=1e-6)
    assert filters.weight.isnan().all(dim=1).tolist() == (expected == 0).all(dim=1).tolist()


def test_filters_of_linear_encoders_are_their_weights() -> None:
    x, units = torch.rand(5, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([4, 1])
    for name in ("linear", "lista"):
        model = _autoencoder(name)
        model.network.encoder_weight.data.normal_()
        filters = encoder_filters(_subject(model, x), units)
        np.testing.assert_array_equal(filters.weight, model.network.encoder_weight.detach()[units])
    model = _autoencoder("linear")
    model.network.encoder_weight = None
    np.testing.assert_array_equal(
        encoder_filters(_subject(model, x), units).weight, model.network.atoms[units].detach()
    )
    assert encoder_filters(_subject(_autoencoder("mlp_encoder"), x), units).name.startswith("mean dz_i/dx over 5 test")
    assert encoder_filters(subject_of(torch.ones(2, 6)), units) is None
    pursuit = SparseAutoencoder(MatchingPursuit(16, latent_dim=6, k=2), NoSparsity(latent_dim=6))
    assert encoder_filters(_subject(pursuit, x), units) is None


@pytest.mark.parametrize("model", ["linear", "mlp_encoder"])
@pytest.mark.parametrize("normalize", ["none", "rms", "standardize", "whiten"])
def test_filters_are_on_the_scale_that_was_trained_on(normalize: Any, model: str) -> None:
    """By differences of codes; contributions that are held against them are on that scale too."""
    x = torch.randn(40, 16, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 17) + 5
    coder = _autoencoder(model, "none")
    coder.scale = Scale.fit(normalize, Moments.of([x], covariance=normalize == "whiten"))
    subject = _subject(coder, x)
    filters = encoder_filters(subject, torch.arange(6))
    assert filters is not None
    assert filters.name.endswith("scaled for training") == (normalize != "none")
    step, scaled = 1e-2, coder.scale(x)
    ahead, behind = (
        torch.stack([coder.encode(coder.scale.inverse(scaled + s * e)).mean(dim=0) for e in torch.eye(16)])
        for s in (step, -step)
    )
    expected = ((ahead - behind) / (2 * step)).T.detach()
    np.testing.assert_allclose(filters.weight.nan_to_num(), expected, atol=0.02 * expected.abs().max())
    if model == "linear":
        atoms = coder.network.dictionary.detach()
        cosines = torch.nn.functional.cosine_similarity(filters.weight, atoms, dim=1)
        assert _run(subject).numbers["filter_cosine"] == pytest.approx(cosines.mean().item(), abs=1e-4)


def test_a_trained_perceptron_gets_all_grids() -> None:
    subject = _subject(_autoencoder("mlp", "kl"), torch.rand(12, 16, generator=torch.Generator().manual_seed(0)))
    assert isinstance(subject.coder.network, MLP)
    result = _run(subject)
    assert set(result.figures) == {"features", "differences", "filters", "top_images"}
    for name in ("differences", "filters"):
        assert _sheet(result.figures[name]).get_clim() == (-1, 1)
        assert _sheet(result.figures[name]).cmap.name == "RdBu_r"
    a, b = result.arrays["filters"].astype(float), result.arrays["differences"].astype(float)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert result.numbers["filter_cosine"] == pytest.approx(cosines.mean(), abs=1e-6)


def test_signed_images_are_shown_symmetrically_around_zero() -> None:
    images = np.zeros((2, 4, 4))
    images[0, 0, 0], images[0, 1, 1], images[1, 2, 2] = -4, 1, 0.5
    signed = _sheet(feature_grid(images, ["0", "1"], title="signed"))
    assert signed.get_clim() == (-1, 1)
    np.testing.assert_array_equal(signed.get_array()[:4, :4], images[0] / 4)
    np.testing.assert_array_equal(signed.get_array()[:4, 5:9], images[1] / 0.5)
    assert signed.get_array().mask[:, 4].all()  # the gap
    grey = _sheet(feature_grid(images + 4, ["0", "1"], title="grey"))
    assert grey.get_clim() == (0, 1)
    np.testing.assert_array_equal(grey.get_array()[:4, :4], (images[0] + 4) / 5)
    assert _sheet(feature_grid(images + 4, ["0", "1"], title="signed", signed=True)).get_clim() == (-1, 1)


@pytest.mark.parametrize(
    "z",
    [torch.zeros(10, 4), torch.ones(10, 1), torch.full((1, 3), 0.5), -torch.ones(5, 2), torch.eye(3, 1024)],
    ids=["dead", "one unit", "one sample", "negative", "wide"],
)
def test_degenerate_codes_give_json_and_figures(z: Tensor) -> None:
    result = _run(subject_of(z))
    assert json.loads(json.dumps(result.numbers, allow_nan=False))["units"] == z.shape[1]
    for figure in result.figures.values():
        assert to_png(figure).startswith(b"\x89PNG")


def test_options_are_checked_by_name() -> None:
    spec = {"_target_": "sparse_ae.analysis.features.analyse", "_partial_": True, **OPTIONS}
    build({**spec, "top_units": [3, 17]}, "analysis.features")
    for wrong in ({"order": "size"}, {"top_units": []}, {"top_units": [-1]}, {"top_units": 0}, {"top_images": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            build(spec | wrong, "analysis.features")
