"""Estimators: in scikit-learn's company, with the framework's results, and leaving everything else alone."""

import ast
import inspect
import io
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import sparse_encode
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

import sparse_ae
from sparse_ae.coders import KSVD, OMP
from sparse_ae.config.build import build
from sparse_ae.config.errors import ConfigError
from sparse_ae.run.export import load
from sparse_ae.sklearn import SparseAutoencoder, SparseCoder
from sparse_ae.sparsity import TopK
from sparse_ae.training.losses import NonFiniteLossError
from tests.helpers import CONF, execute_run, fresh_config

Floats = npt.NDArray[Any]

SMALL = {"n_components": 16, "max_iter": 3, "random_state": 0}


@pytest.fixture(scope="module")
def digits() -> Floats:
    """Handwritten digits ``(400, 64)``, float64 from 0 to 16."""
    x: Floats = load_digits().data[:400]
    return x


@pytest.fixture(scope="module")
def trained(digits: Floats) -> Any:
    """A small autoencoder with codes of 4 of 16 units."""
    return SparseAutoencoder(k=4, **SMALL).fit(digits)


# In scikit-learn's company.


def test_a_search_through_a_pipeline(digits: Floats) -> None:
    code = SparseAutoencoder(n_components=64, max_iter=10, random_state=0)
    classifier = LogisticRegression(max_iter=1000, tol=0.1)
    pipeline = Pipeline([("scale", StandardScaler()), ("code", code), ("classify", classifier)])
    search = GridSearchCV(pipeline, {"code__k": np.array([1, 16])}, cv=2).fit(digits, load_digits().target[:400])
    assert search.best_params_ == {"code__k": 16}
    assert search.best_score_ > 0.7
    assert search.best_estimator_[:-1].get_feature_names_out()[-1] == "sparseautoencoder63"


def test_a_search_over_both_estimators_scores_explained_variance(digits: Floats) -> None:
    coders = [SparseAutoencoder(**SMALL), SparseCoder(16, method="data_atoms", random_state=0)]
    grid = {"code": coders, "code__k": [1, 8]}
    search = GridSearchCV(Pipeline([("code", coders[0])]), grid, cv=2, refit=False).fit(digits)
    scores = search.cv_results_["mean_test_score"].reshape(2, 2)
    assert (scores < 1).all()
    assert (scores[:, 1] > scores[:, 0]).all()


@pytest.mark.parametrize("dump", [pickle.dump, joblib.dump])
def test_a_pickled_estimator_codes_and_trains_as_before(trained: Any, digits: Floats, dump: Any) -> None:
    file = io.BytesIO()
    dump(trained, file)
    copies = []
    for _ in range(2):
        file.seek(0)
        copies.append(joblib.load(file) if dump is joblib.dump else pickle.load(file))
    np.testing.assert_array_equal(copies[0].transform(digits), trained.transform(digits))
    first, second = (copy.partial_fit(digits).components_ for copy in copies)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, SparseAutoencoder(k=4, **SMALL | {"max_iter": 4}).fit(digits).components_)


def test_a_clone_is_not_fitted(trained: Any, digits: Floats) -> None:
    copy = clone(trained)
    assert copy.get_params() == trained.get_params()
    assert not hasattr(copy, "components_")
    for use in (copy.transform, copy.inverse_transform, copy.score, lambda _: copy.components_):
        with pytest.raises(NotFittedError):
            use(digits)
    np.testing.assert_array_equal(copy.fit(digits).components_, trained.components_)


def test_codes_as_a_data_frame(trained: Any, digits: Floats) -> None:
    frame = clone(trained).set_output(transform="pandas").fit(digits).transform(digits)
    assert list(frame.columns) == [f"sparseautoencoder{unit}" for unit in range(16)]
    np.testing.assert_array_equal(frame.to_numpy(), trained.transform(digits))


@pytest.mark.parametrize("coder", [SparseAutoencoder(k=4, **SMALL), SparseCoder(16, k=4, method="data_atoms")])
def test_sparse_codes_are_the_dense_ones(coder: Any, digits: Floats) -> None:
    dense = clone(coder).set_params(random_state=0).fit(digits)
    sparse = clone(dense).set_params(sparse_output=True).fit(digits)
    codes = sparse.transform(digits)
    assert issparse(codes)
    assert codes.format == "csr"
    assert codes.nnz == np.count_nonzero(dense.transform(digits))
    np.testing.assert_array_equal(codes.toarray(), dense.transform(digits))
    np.testing.assert_array_equal(sparse.inverse_transform(codes), dense.inverse_transform(codes.toarray()))
    with pytest.raises(ValueError, match="sparse"):
        sparse.set_output(transform="pandas").transform(digits)


def test_large_data_are_coded_in_parts(trained: Any, digits: Floats) -> None:
    many = np.tile(digits, (51, 1))
    codes = trained.transform(many)
    np.testing.assert_allclose(codes, np.tile(trained.transform(digits), (51, 1)), atol=1e-12)
    assert trained.inverse_transform(codes).shape == many.shape


# With the framework's results.


def _run_of(path: Path, *overrides: str) -> tuple[Floats, Any]:
    """Training rows of a run on the digits, and its model."""
    config = fresh_config(
        "data=arrays",
        f"data.path={path}",
        "data.val_size=0",
        "data.batch_size=100",
        "model.latent_dim=16",
        "seed=3",
        "trainer.max_epochs=5",
        "trainer.enable_progress_bar=false",
        "analysis=[]",
        *overrides,
    )
    data = build(config["data"], "data")
    rows: Floats = data.split("train").rows.read(0, data.train_size).numpy()
    return rows, load(execute_run(path.parent / "run", config))


@pytest.mark.parametrize(
    ("overrides", "parameters"),
    [
        (
            ["model=linear", "sparsity=batch_topk", "sparsity.k=2", "dead=auxk", "data.normalize=standardize"],
            {"method": "batch_topk", "k": 2, "dead": "auxk", "normalize": "standardize"},
        ),
        (
            ["model=linear", "sparsity=l1", "sparsity.coefficient=1", "dead=resample", "optimizer.lr=0.01"],
            {"method": "l1", "coefficient": 1, "dead": "resample", "learning_rate": 0.01},
        ),
        (
            ["model=mlp", "model.hidden_sizes=[8]", "sparsity=k_sparse", "sparsity.k=2"],
            {"network": "mlp", "network_options": {"hidden_sizes": [8]}, "method": "k_sparse", "k": 2},
        ),
    ],
    ids=["batch_topk", "l1", "mlp"],
)
def test_weights_are_those_of_a_run(
    digits: Floats, tmp_path: Path, overrides: list[str], parameters: dict[str, Any]
) -> None:
    np.save(tmp_path / "digits.npy", digits.astype(np.float32))
    rows, model = _run_of(tmp_path / "digits.npy", *overrides)
    own = SparseAutoencoder(16, batch_size=100, max_iter=5, random_state=3, **parameters).fit(rows)
    expected, found = model.state_dict(), own.model_.state_dict()
    assert found.keys() == expected.keys()
    for name, weights in expected.items():
        torch.testing.assert_close(found[name], weights, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(own.transform(rows), model.encode(torch.from_numpy(rows)).detach(), atol=1e-5)


def test_atoms_and_reconstructions_are_the_models(trained: Any, digits: Floats) -> None:
    codes, model = trained.transform(digits), trained.model_
    np.testing.assert_array_equal(trained.components_, model.dictionary.detach())
    np.testing.assert_array_equal(trained.inverse_transform(codes), model.decode(torch.from_numpy(codes)).detach())
    offset = trained.inverse_transform(np.zeros((1, 16)))
    np.testing.assert_allclose(trained.inverse_transform(codes), codes @ trained.components_ + offset)


def test_the_score_is_explained_variance(trained: Any, digits: Floats) -> None:
    x, new = digits, digits[:100] + 1
    error = np.square(trained.inverse_transform(trained.transform(new)) - new).sum()
    assert trained.score(new) == pytest.approx(1 - error / np.square(new - x.mean(axis=0)).sum())
    np.testing.assert_allclose(trained.mean_, x.mean(axis=0))


@pytest.mark.parametrize("method", ["omp", "fista"])
def test_codes_on_given_atoms_are_scikit_learns(digits: Floats, method: str) -> None:
    rng = np.random.default_rng(0)
    atoms = rng.normal(size=(30, 64))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    options = {"omp": {"k": 5}, "fista": {"method_options": {"penalty": 2.0, "steps": 5000, "tolerance": 0.0}}}
    coder = SparseCoder(method=method, dictionary=atoms, **options[method]).fit(digits[:50])
    theirs = {"omp": {"n_nonzero_coefs": 5}, "fista": {"alpha": 2.0, "max_iter": 10_000}}
    algorithm = {"omp": "omp", "fista": "lasso_cd"}[method]
    expected = sparse_encode(digits[:50], atoms, algorithm=algorithm, **theirs[method])
    np.testing.assert_allclose(coder.transform(digits[:50]), expected, atol=1e-2 if method == "fista" else 1e-8)
    np.testing.assert_array_equal(coder.components_, atoms)
    atoms[:] = 1
    assert not np.array_equal(coder.components_, atoms)


def test_ksvd_is_the_frameworks(digits: Floats) -> None:
    own = SparseCoder(16, k=2, method_options={"epochs": 2}, random_state=5).fit(digits)
    coder = KSVD(latent_dim=16, n_nonzero=2, epochs=2, seed=5).fit(torch.from_numpy(digits))
    np.testing.assert_array_equal(own.components_, coder.dictionary)
    np.testing.assert_array_equal(own.transform(digits), coder.encode(torch.from_numpy(digits)))


# Options.


@pytest.mark.parametrize("method", sorted(path.stem for path in (CONF / "sparsity").glob("*.yaml")))
def test_every_sparsity_method_has_its_name(digits: Floats, method: str) -> None:
    codes = SparseAutoencoder(method=method, n_components=16, max_iter=1).fit_transform(digits[:100])
    assert np.isfinite(codes).all()


@pytest.mark.parametrize("network", sorted(path.stem for path in (CONF / "model").glob("*.yaml")))
def test_every_network_has_its_name(digits: Floats, network: str) -> None:
    method = "none" if network == "matching_pursuit" else "topk"
    coder = SparseAutoencoder(network=network, method=method, n_components=16, max_iter=1).fit(digits[:100])
    assert coder.components_.shape == (16, 64)


def test_k_is_that_of_a_network_which_chooses_its_units(digits: Floats) -> None:
    coder = SparseAutoencoder(16, network="matching_pursuit", method="none", k=3, max_iter=1).fit(digits[:100])
    assert (coder.transform(digits) != 0).sum(axis=1).max() == 3


@pytest.mark.parametrize(
    "method", sorted({path.stem for path in (CONF / "coder").glob("*.yaml")} - {"ista", "true_atoms"})
)
def test_every_coder_has_its_name(digits: Floats, method: str) -> None:
    """ISTA is ``fista`` with ``{"momentum": False}``; true atoms are of data that are made."""
    given = {"dictionary": np.eye(16, 64)} if method in ("omp", "fista") else {"n_components": 16}
    assert SparseCoder(method=method, **given).fit(digits[:100]).components_.shape == (16, 64)


def test_a_class_as_method(digits: Floats) -> None:
    own = SparseAutoencoder(method=TopK, k=4, **SMALL).fit(digits)
    np.testing.assert_array_equal(own.components_, SparseAutoencoder(k=4, **SMALL).fit(digits).components_)
    assert SparseCoder(method=OMP, dictionary=np.eye(64), k=3).fit(digits).model_.k == 3


def test_k_is_at_most_the_number_of_units(digits: Floats) -> None:
    assert SparseAutoencoder(4, max_iter=1).fit(digits).model_.sparsity.k == 4
    assert SparseAutoencoder(64, max_iter=1).fit(digits).model_.sparsity.k == 32
    assert SparseCoder(4, method="data_atoms").fit(digits).model_.k == 4


def test_a_target_is_met(digits: Floats) -> None:
    x = digits.astype(np.float32)
    l1 = SparseAutoencoder(64, method="l1", target_l0=8.0, network="mlp", max_iter=150, random_state=0).fit(x)
    assert (l1.transform(x) != 0).sum(axis=1).mean() == pytest.approx(8, rel=0.1)
    assert SparseAutoencoder(target_l0=5, max_iter=1).fit(x).model_.sparsity.k == 5


@pytest.mark.parametrize(("low", "high", "output"), [(0, 1, "sigmoid"), (0, 16, "linear")])
def test_the_output_suits_the_data(digits: Floats, low: float, high: float, output: str) -> None:
    coder = SparseAutoencoder(4, network="mlp", normalize="none", max_iter=1).fit(digits / 16 * (high - low) + low)
    assert coder.model_.network.output == output


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (
            SparseAutoencoder(method="topp"),
            r"^method=topp: no such method; did you mean topk\? \(expected batch_topk, ",
        ),
        (SparseAutoencoder(4, k=9), r"^k=9: not a number of units \(expected 1 to n_components=4\)$"),
        (SparseAutoencoder(method="l1", k=3), r"^k=3: L1 takes none \(expected None\)$"),
        (SparseAutoencoder(coefficient=0.1), r"^coefficient=0.1: TopK takes none \(expected None\)$"),
        (SparseAutoencoder(method_options={"signd": True}), r"^method.signd: no such key; did you mean signed\?"),
        (SparseAutoencoder(network="mlp", dead="auxk"), r"^dead: .* \(expected dead=none, or network=linear\)$"),
        (SparseAutoencoder(target_l0=3, k=2), r"^target_l0=3.0: given beside k \(expected one of them\)$"),
        (
            SparseAutoencoder(method="kl", target_l0=3),
            r"^target_l0: .* always n_components \(expected another method\)$",
        ),
        (SparseAutoencoder(batch_size=0, normalize="zscore"), r"^batch_size=0: .*\nnormalize=zscore: "),
        (SparseAutoencoder(None), r"^n_components=None: should be"),
        (SparseAutoencoder(random_state=-1), r"^Seed must be between 0 and"),
        (SparseCoder(4, k=5), r"^k=5: more than there are atoms \(expected 1 to n_components=4\)$"),
        (SparseCoder(500), r"^n_components=500: more atoms than samples .* \(expected 1 to 400\)$"),
        (SparseCoder(method="omp"), r"^dictionary: method=omp codes on given atoms"),
        (SparseCoder(dictionary=np.eye(64)), r"^dictionary: method=ksvd learns atoms \(expected None, or method=omp"),
        (SparseCoder(method="omp", dictionary=np.eye(5)), r"^x: 64 values per sample \(expected 5, as in the dict"),
        (SparseCoder(method="pca", k=2), r"^k=2: PCA takes none"),
    ],
)
def test_mistakes_name_the_parameter(digits: Floats, estimator: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimator.fit(digits)


def test_mistakes_in_data(trained: Any) -> None:
    with pytest.raises(ConfigError, match="X: all rows are the same"):
        SparseAutoencoder().fit(np.ones((5, 3)))
    with pytest.raises(ValueError, match="5 codes per sample"):
        trained.inverse_transform(np.ones((2, 5)))


def test_divergence_is_an_error_and_changes_nothing(trained: Any, digits: Floats) -> None:
    copy = pickle.loads(pickle.dumps(trained)).set_params(learning_rate=1e300, network_options={"unit_norm": False})
    with pytest.raises(NonFiniteLossError, match="at step 2"):
        copy.fit(digits)
    np.testing.assert_array_equal(copy.transform(digits), trained.transform(digits))


# Training by parts.


def test_passes_by_hand_are_those_of_fit(trained: Any, digits: Floats) -> None:
    by_hand = clone(trained)
    for _ in range(3):
        by_hand.partial_fit(digits)
    np.testing.assert_array_equal(by_hand.components_, trained.components_)
    assert by_hand.n_iter_ == trained.n_iter_ == 3
    assert by_hand.loss_curve_ == trained.loss_curve_


def test_training_on_a_stream(trained: Any, digits: Floats) -> None:
    stream = clone(trained)
    for rows in (digits[:100], digits[100:101], digits[101:].astype(np.float32)):
        stream.partial_fit(rows)
    np.testing.assert_allclose(stream.mean_, trained.mean_, rtol=1e-5)
    assert stream.transform(digits).dtype == np.float64
    assert stream.n_iter_ == 3


@pytest.mark.parametrize("parameters", [{"method": "k_sparse", "k": 2}, {"dead": "auxk"}])
def test_parts_that_count_passes_need_fit_first(digits: Floats, parameters: dict[str, Any]) -> None:
    coder = SparseAutoencoder(**SMALL, **parameters)
    with pytest.raises(ConfigError, match=f"^{next(iter(parameters))}=.*partial_fit"):
        coder.partial_fit(digits)
    assert coder.fit(digits).partial_fit(digits[:10]).n_iter_ == 4


# Leaving everything else alone.


@pytest.mark.parametrize("kind", [SparseAutoencoder, SparseCoder])
def test_a_random_state_is_scikit_learns(digits: Floats, kind: Callable[..., Any]) -> None:
    def atoms(random_state: Any) -> Floats:
        options = {"max_iter": 1} if kind is SparseAutoencoder else {"method_options": {"epochs": 1}}
        components: Floats = kind(8, k=2, random_state=random_state, **options).fit(digits).components_
        return components

    np.testing.assert_array_equal(atoms(1), atoms(np.int64(1)))
    np.testing.assert_array_equal(atoms(np.random.RandomState(1)), atoms(np.random.RandomState(1)))
    one = np.random.RandomState(1)
    assert not np.array_equal(atoms(one), atoms(one))
    assert not np.array_equal(atoms(None), atoms(None))


def test_generators_and_settings_stay(digits: Floats) -> None:
    def state() -> tuple[Any, ...]:
        numpy = np.random.get_state()  # noqa: NPY002
        return (
            torch.get_rng_state().tolist(),
            numpy[1].tolist(),
            numpy[2:],
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.is_grad_enabled(),
        )

    before = state()
    SparseAutoencoder(network="mlp", normalize="whiten", **SMALL).fit(digits).partial_fit(digits).score(digits)
    SparseCoder(8, method="online_dl", random_state=0).fit(digits).score(digits)
    assert state() == before
    with torch.no_grad():
        assert SparseAutoencoder(**SMALL).fit(digits).n_iter_ == 3


def test_fits_in_threads_are_those_of_one(digits: Floats) -> None:
    coder = SparseAutoencoder(512, network="mlp", max_iter=1, random_state=0)
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(4) as pool:
        atoms = list(pool.map(lambda _: clone(coder).fit(digits[:20]).components_, range(12)))
    for found in atoms:
        np.testing.assert_array_equal(found, atoms[0])
    assert torch.get_num_threads() == threads


def test_types_of_data(digits: Floats) -> None:
    for kind in (SparseAutoencoder(**SMALL), SparseCoder(16, method="data_atoms", random_state=0)):
        single, double = (clone(kind).fit(digits.astype(dtype)) for dtype in (np.float32, np.float64))
        assert single.transform(digits).dtype == single.components_.dtype == np.float32
        assert double.inverse_transform(double.transform(digits)).dtype == double.components_.dtype == np.float64
        # Rounding grows while a network trains, and differs between processors: a norm is compared, not each weight.
        apart = np.linalg.norm(single.components_ - double.components_) / np.linalg.norm(double.components_)
        assert apart < 1e-2
        np.testing.assert_array_equal(clone(kind).fit(digits.astype(int)).components_, double.components_)


@pytest.mark.parametrize("kind", [SparseAutoencoder, SparseCoder])
def test_docstrings_are_numpydocs(kind: Any) -> None:
    """Notebooks show them beside parameters: each has its name and default, and so has each attribute."""
    text = inspect.getdoc(kind) or ""
    sections = re.split(r"^(Parameters|Attributes|Raises|Examples)\n-+\n", text, flags=re.MULTILINE)
    parameters, attributes = (sections[sections.index(name) + 1] for name in ("Parameters", "Attributes"))
    documented = re.findall(r"^(\w+) : .+, default=(.+)$", parameters, flags=re.MULTILINE)
    assert {name: ast.literal_eval(value) for name, value in documented} == kind().get_params()
    learned = kind(3).fit(pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [3.0, 1.0, 2.0], "c": [0.0, 1.0, 1.0]}))
    names = {name for name in dir(learned) if name.endswith("_") and not name.startswith("_")}
    assert {*re.findall(r"^(\w+) : ", attributes, flags=re.MULTILINE)} == names


def test_the_package_has_the_estimators() -> None:
    assert sparse_ae.sklearn.SparseAutoencoder is SparseAutoencoder
