"""``data=activations``: splits, identity, mistakes, and runs of the commands on it."""

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sparse_ae.config.build import build
from sparse_ae.config.errors import ConfigError
from sparse_ae.data import Activations
from sparse_ae.data.activations import module
from sparse_ae.data.activations.files import identity
from sparse_ae.run.directory import Run
from sparse_ae.run.naming import config_hash
from tests.data.activations.models import DIM, LONGEST, WORDS
from tests.helpers import Cli, fresh_config


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests of this file."""
    return tmp_path_factory.mktemp("root")


@pytest.fixture
def options(bert: Path, corpus: Path, root: Path) -> dict[str, Any]:
    return {
        "model": str(bert),
        "layer": "encoder.layer.0",
        "text": str(corpus),
        "context": 16,
        "batch_size": 16,
        "root": str(root),
    }


@pytest.fixture
def few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with text that is none."""
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text(" \n")
    Path("a.jsonl").write_text(json.dumps({"text": "the cat"}))
    return tmp_path


def prepared(options: dict[str, Any], **changes: Any) -> Activations:
    data = Activations(**options | changes)
    data.inspect()
    return data


def test_documents_stay_whole(options: dict[str, Any]) -> None:
    data = prepared(options)
    assert data.input_shape == (DIM,)
    assert data.doubts == []
    documents = [set(data.tokens(name).document.tolist()) for name in ("train", "val", "test")]
    assert sum(map(len, documents)) == len(set().union(*documents)) == 30
    assert sum(data.sizes.values()) == 540
    assert 54 <= data.sizes["test"] <= 54 + 27
    assert 54 <= data.sizes["val"] <= 54 + 27


def test_rows_and_their_tokens_belong_together(options: dict[str, Any], corpus: Path) -> None:
    data = prepared(options)
    for name in ("train", "val", "test"):
        tokens, (rows, label) = data.tokens(name), data.split(name)  # type: ignore[arg-type]
        assert label is None
        assert len(rows) == len(tokens.token) == data.sizes[name]  # type: ignore[index]
        for i in (0, len(rows) - 1):
            context = data.contexts.tokens(int(tokens.context[i]))
            assert context[tokens.position[i]] == tokens.token[i]
            is_same = (data.cache.column("context") == tokens.context[i]) & (
                data.cache.column("position") == tokens.position[i]
            )
            place = int(is_same.nonzero()[0])
            assert torch.equal(rows.read(i, i + 1), data.cache.rows.read(place, place + 1))
        document = int(tokens.document[0])
        words = data.tokenizer.decode(tokens.token[tokens.document == document])
        assert sorted(words.split()) == sorted((corpus / f"{document}.txt").read_text().split())


def test_contexts_stay_whole_where_documents_cannot(options: dict[str, Any], tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text("the cat sat on the mat . a dog ran " * 50)
    data = prepared(options, text=str(book))
    reason = "a document has more than 10% of the rows"
    assert data.doubts == [f"data.text={book}: {reason}: splits are drawn in whole contexts, and may share documents"]
    contexts = [set(data.tokens(name).context.tolist()) for name in ("train", "val", "test")]
    assert sum(map(len, contexts)) == len(set().union(*contexts))
    assert prepared(options, text=str(book), val_size=0, test_size=0).doubts == []


def test_a_cache_needs_no_model(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepared(options, context=15, layers=["encoder.layer.1"])
    monkeypatch.delattr(module, "LanguageModel")
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        again = prepared(options, context=15, layer=layer, harvest_batch=3)
        assert again.sizes == first.sizes
    with pytest.raises(NameError):
        Activations(**options, n=200)


def test_a_cache_outlives_model_and_text(options: dict[str, Any], bert: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(bert, tmp_path / "model"))
    own = options | {"model": str(model), "content": identity({"model": bert, "text": options["text"]})}
    first = prepared(own)
    shutil.rmtree(model)
    again = prepared(own | {"text": "gone"})
    assert again.sizes == first.sizes
    assert again.tokenizer.decode([5, 6]) == "the cat"
    with pytest.raises(ConfigError, match=r"^model=.*: no such folder$"):
        Activations(**own | {"n": 50})


def test_a_damaged_cache_is_mended(options: dict[str, Any], tmp_path: Path) -> None:
    own = options | {"root": str(tmp_path)}
    first = prepared(own)
    rows = first.cache.rows.read(0, 540)
    file = first.cache.folder / "rows" / "0.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="is damaged; what is damaged is harvested again$"):
        again = prepared(own)
    assert torch.equal(again.cache.rows.read(0, 540), rows)


def test_a_source_that_changes_meanwhile(options: dict[str, Any], tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("the cat sat . " * 20)
    content = identity({"model": options["model"], "text": str(text)})
    text.write_text("the dog ran . " * 20)
    with pytest.raises(ValueError, match="data: has changed while it was read; repeat the command"):
        Activations(**options | {"text": str(text), "content": content})


def test_an_epoch_from_disk_is_that_from_memory(options: dict[str, Any]) -> None:
    memory, disk = prepared(options), prepared(options, storage="disk")
    assert memory.tier == "device"
    batches = list(zip(memory.train_dataloader(), disk.train_dataloader(), strict=True))
    assert all(torch.equal(a.x, b.x) for a, b in batches)
    assert torch.cat([a.x for a, _ in batches]).square().mean() == pytest.approx(1, rel=1e-3)


def test_the_line_about_the_data(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepared(options, dtype="float32")
    place = data.cache.folder
    text = f"data: encoder.layer.0 of {options['model']} on {options['text']} (540 x 16 float32, 34.6 kB) in {place}; "
    sizes = ", ".join(f"{n:,} {name}" for name, n in data.sizes.items())
    assert data.describe() == text + sizes
    ratio = 1.2
    data = prepared(options, dtype="float32", layer="encoder.layer.0.attention.self", max_norm_ratio=ratio)
    manifest = data.cache.manifest()
    assert manifest is not None
    assert manifest.left_out > 0
    told = f"; {manifest.left_out} rows left out, of norm above 1.2 x the median {manifest.median_norm:.3g}"
    assert data.describe().endswith(told)
    assert sum(data.sizes.values()) == 540 - manifest.left_out


def test_rows_all_alike(options: dict[str, Any], tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("cat " * 100)
    with pytest.raises(ConfigError, match="data: all training rows are the same"):
        prepared(options, text=str(text), layer="embeddings.word_embeddings")


SAME = {"root": "/elsewhere", "layers": ["h.1"], "harvest_batch": 4, "download": True}
SAME |= {"model": "m", "text": "t", "field": "f"}  # data.content is what matters
OTHER = {
    "layer": "encoder.layer.1",
    "context": 17,
    "packing": "pad",
    "special_tokens": True,
    "max_norm_ratio": 3,
    "n": 100,
    "dtype": "float32",
    "content": "0",
}


def test_a_run_is_named_by_what_changes_its_rows(options: dict[str, Any], bert: Path, tmp_path: Path) -> None:
    def config(**changes: Any) -> dict[str, Any]:
        own = options | {"root": "cache"} | changes
        return fresh_config("data=activations", *(f"data.{key}={value}" for key, value in own.items()))

    first = config()

    def hashed(**changes: Any) -> str:
        return config_hash(first | {"data": first["data"] | changes})

    assert {hashed(**{key: value}) for key, value in SAME.items()} == {config_hash(first)}
    assert len({config_hash(first), *(hashed(**{key: value}) for key, value in OTHER.items())}) == 1 + len(OTHER)
    model, text = shutil.copytree(bert, tmp_path / "model"), shutil.copytree(options["text"], tmp_path / "text")
    assert config_hash(config(model=model, text=text)) == config_hash(first)
    (text / "3.txt").write_text("the mat")
    assert config_hash(config(model=model, text=text)) != config_hash(first)


def test_a_cache_is_named_by_what_changes_its_rows(options: dict[str, Any]) -> None:
    same = {"harvest_batch": 4, "seed": 1, "batch_size": 8, "val_size": 0}
    other = {"layer": "encoder.layer.1", "context": 17, "packing": "pad", "special_tokens": True, "n": 100}
    other |= {"dtype": "float32", "max_norm_ratio": None}
    folder = Activations(**options).cache.folder
    assert Activations(**options | same).cache.folder == folder
    assert len({folder, *(Activations(**options | {k: v}).cache.folder for k, v in other.items())}) == 1 + len(other)


def test_a_field_counts_for_jsonl_only(options: dict[str, Any], tmp_path: Path) -> None:
    """A cache of .txt files is the same for any ``field``; of a .jsonl file among them each field has its own."""
    text = Path(shutil.copytree(options["text"], tmp_path / "text"))
    folders = [Activations(**options | {"text": str(text), "field": field}).cache.folder for field in ("text", "body")]
    assert folders == [Activations(**options).cache.folder] * 2
    (text / "z.jsonl").write_text(json.dumps({"text": "the cat", "body": "the dog"}))
    folders = [Activations(**options | {"text": str(text), "field": field}).cache.folder for field in ("text", "body")]
    assert folders[0] != folders[1]
    given = [f"data.{key}={value}" for key, value in (options | {"text": str(text)}).items()]
    hashes = {
        config_hash(fresh_config("data=activations", *given, f"data.field={field}")) for field in ("text", "body")
    }
    assert len(hashes) == 2


def test_the_manifest_tells_what_a_folder_holds(options: dict[str, Any], tmp_path: Path) -> None:
    data = prepared(options, root=str(tmp_path), n=300)
    found = json.loads((data.cache.folder / "manifest.json").read_text())["recipe"]
    assert found == data.recipe("encoder.layer.0")
    assert (found["layer"], found["context"], found["n"]) == ("encoder.layer.0", 16, 300)
    assert found["content"] == identity(options)
    named = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    assert data.cache.folder.name == f"activations-{named[:16]}"


MISTAKES = [
    ({"model": "???"}, r"data\.model: is required \(expected a folder, or a name in the local cache\)$"),
    ({"layer": "???"}, r"data\.layer: is required \(expected a module of the model\)$"),
    ({"text": "???"}, r"data\.text: is required \(expected \.txt or \.jsonl files, a folder of them, or "),
    ({"model": "./none"}, r"data\.model=\./none: no such folder$"),
    ({"model": "org/none"}, r"data\.model=org/none: neither a folder nor a name in the local cache; data\.download=tr"),
    ({"layer": "layer.0"}, r"data\.layer=layer\.0: BertModel has no such layer \(expected a module such as encoder\."),
    ({"layers": ["pooler"]}, r"data\.layers=pooler: for 2 contexts of 3 tokens it gives a tensor of shape \(2, 16\)"),
    ({"text": "none.txt"}, r"data\.text=none\.txt: no such file or folder$"),
    ({"text": "empty.txt"}, r"data\.text=empty\.txt: the files have no text \(expected \.txt or \.jsonl files, "),
    ({"text": "a.jsonl", "field": "body"}, r"data\.field=body: a\.jsonl has no such key in line 1 \(expected text\)$"),
    ({"context": LONGEST + 1}, r"data\.context=33: longer than .* can read \(expected 2 to 32\)$"),
    ({"context": 2}, r"data\.context=2: has no room beside the special tokens \(expected at least 3\)$"),
    ({"n": 9}, r"data\.text: 1 groups that stay whole leave no training rows \(expected more groups, or a smaller val"),
    ({"dtype": "int8"}, r"data\.dtype=int8: should be 'float16', 'bfloat16' or 'float32'$"),
    ({"max_norm_ratio": 1}, r"data\.max_norm_ratio=1: should be greater than 1$"),
    ({"batch_size": 10**5}, r"data\.batch_size=100000: larger than the data"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=lambda value: ",".join(value))
def test_mistakes(changes: dict[str, Any], message: str, options: dict[str, Any], few_files: Path) -> None:
    before = sorted(few_files.rglob("*"))
    spec = {"_target_": "sparse_ae.data.Activations", **options, "root": "cache", **changes}
    with pytest.raises(ConfigError, match=message) as error:
        build(spec, "data")
    assert "\n" not in str(error.value)
    assert sorted(few_files.rglob("*")) == before


def test_a_mistake_on_the_command_line(options: dict[str, Any], few_files: Path, cli: Cli) -> None:
    before = sorted(few_files.rglob("*"))
    given = [f"data.{key}={value}" for key, value in (options | {"root": "cache", "layer": "h.0"}).items()]
    outcome = cli("sparse-ae-train", "data=activations", *given)
    assert outcome.code == 1
    assert outcome.err.startswith("sparse-ae-train: error: data.layer=h.0: BertModel has no such layer (expected ")
    assert outcome.err.count("\n") == 1
    assert sorted(few_files.rglob("*")) == before


def test_without_transformers(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers.utils", None)
    message = r"data=activations: needs a package that is missing \(.*\); pip install 'sparse-ae\[activations\]'$"
    with pytest.raises(ConfigError, match=message):
        Activations(**options, n=300)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=message):
        Activations(**options | {"model": "org/none"})


def test_a_model_is_trained_and_a_coder_fitted_on_one_cache(options: dict[str, Any], cli: Cli, tmp_path: Path) -> None:
    given = [f"data.{key}={value}" for key, value in options.items() if key not in ("text", "root")]
    given += ["data=activations", f"data.text={options['text']}/*.txt", f"data.root={tmp_path / 'cache'}"]
    outcome = cli(
        "sparse-ae-train",
        *given,
        *("model=linear", "sparsity=topk", "sparsity.k=4", "model.latent_dim=32", "dead=auxk"),
        *("trainer.max_epochs=2", "hydra.run.dir=run"),
    )
    assert outcome.code == 0, outcome.err
    assert "harvesting 540 rows of encoder.layer.0" in outcome.out
    run = Run(tmp_path / "run")
    assert run.metrics["test/l0"] == pytest.approx(4)
    assert 0 < run.metrics["test/fvu"] < 1
    _check_page(run, ["contexts", "sparsity"])
    tags = EventAccumulator(str(run.path)).Reload().Tags()
    assert not {"reconstructions", "features"} & set(tags["images"])  # as pictures, rows of text say nothing
    assert {"codes", "lifetime_sparsity"} <= set(tags["histograms"])
    outcome = cli("sparse-ae-analyse", "run=run", "analysis=[features,selectivity]", "device=cpu")
    assert outcome.code == 0, outcome.err
    assert "selectivity: units with most of their activity on one token: " in outcome.out
    _check_page(run, ["contexts", "contexts", "sparsity", "shares", "tokens"])
    outcome = cli("sparse-ae-fit", *given, "coder=pca", "coder.latent_dim=4", "hydra.run.dir=fit")
    assert outcome.code == 0, outcome.err
    assert "harvesting" not in outcome.out
    assert len(list((tmp_path / "cache").glob("activations-*"))) == 1
    assert 0 < Run(tmp_path / "fit").metrics["test/fvu"] < 1
    _check_page(Run(tmp_path / "fit"), ["contexts", "sparsity"])


def _check_page(run: Run, figures: list[str]) -> None:
    """The run has these figures, and a page of its units whose contexts are of words."""
    assert [figure.stem for figure in run.figures] == figures
    assert "units.html" in (run.path / "report.html").read_text()
    (text,) = re.findall(r'(?s)type="application/json">(.*?)</script>', (run.path / "units.html").read_text())
    data = json.loads(text)
    assert {piece.strip() for piece in data["pieces"]} == set(WORDS)
    assert len(data["units"]) == data["living_units"] > 3
    assert all(unit["contexts"] for unit in data["units"])
