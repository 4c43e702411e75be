"""Harvest: the right rows, whatever stops it; by one process at a time; told before and refused without room."""

import json
import os
import shutil
import signal
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel

from sparse_ae.config.errors import ConfigError
from sparse_ae.data.activations.cache import Cache
from sparse_ae.data.activations.corpus import pieces, text_files
from sparse_ae.data.activations.cutting import Packing, cut
from sparse_ae.data.activations.harvest import Harvest
from sparse_ae.data.activations.language_model import LanguageModel
from tests.data.activations.models import DIM
from tests.data.test_made import _room_for
from tests.processes import CONTEXT, wait_until

LAYER = "encoder.layer.0"
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparse_ae.data.activations.tokens.SHARD_ROWS", 100)


def harvest(model: Path, corpus: Path, packing: Packing = "pad") -> Harvest:
    """A harvest of all documents, in contexts of 12 tokens."""
    loaded = LanguageModel(model, "m")
    texts = pieces(text_files(str(corpus)), "text")
    return Harvest(loaded, cut(texts, loaded.tokenizer, context=12, packing=packing, special_tokens=False))


def content(folder: Path) -> dict[str, bytes]:
    """All files of a cache."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def all_rows(cache: Cache) -> Tensor:
    return cache.rows.read(0, len(cache.rows))


class Whole(NamedTuple):
    """A finished cache that tests copy."""

    harvest: Harvest
    cache: Cache

    def copy(self, folder: Path) -> Cache:
        return Cache(Path(shutil.copytree(self.cache.folder, folder / "copy")))


@pytest.fixture(scope="module")
def whole(bert: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparse_ae.data.activations.tokens.SHARD_ROWS", 100)
        found = Whole(harvest(bert, corpus), Cache(tmp_path_factory.mktemp("root") / "activations"))
        found.harvest.fill({LAYER: found.cache}, CPU)
    return found


def test_rows_are_hidden_states_of_each_context_alone(whole: Whole, bert: Path) -> None:
    model, contexts = AutoModel.from_pretrained(bert).eval(), whole.harvest.contexts
    expected = []
    for i in range(contexts.number):
        with torch.no_grad():
            states = model(contexts.tokens(i)[None].long(), output_hidden_states=True).hidden_states
        expected.append(states[1][0, 1:-1])  # without [CLS] and [SEP]
    rows = all_rows(whole.cache)
    assert rows.dtype == torch.float16
    assert rows.shape == (540, DIM)
    assert torch.allclose(rows.float(), torch.cat(expected), atol=2e-3)
    assert len(list((whole.cache.folder / "rows").glob("*.safetensors"))) == 6
    for name in ("token", "position", "context", "document"):
        assert torch.equal(whole.cache.column(name), contexts.column(name).long())
    assert whole.cache.column("document").unique().tolist() == list(range(30))


def test_packed_rows_are_hidden_states_too(gpt2: Path, corpus: Path, tmp_path: Path) -> None:
    packed, cache, model = (
        harvest(gpt2, corpus, "pack"),
        Cache(tmp_path / "cache"),
        AutoModel.from_pretrained(gpt2).eval(),
    )
    packed.fill({"h.0": cache}, CPU)
    expected = []
    for i in range(packed.contexts.number):
        token = packed.contexts.tokens(i).long()
        with torch.no_grad():
            states = model(token[None], output_hidden_states=True).hidden_states
        expected.append(states[1][0, token != 0])  # without the separator
    assert torch.allclose(all_rows(cache).float(), torch.cat(expected), atol=2e-3)
    assert cache.column("document").tolist() == sorted(cache.column("document").tolist())


def test_the_tokeniser_decodes_the_rows(whole: Whole, corpus: Path) -> None:
    token, document = whole.cache.column("token"), whole.cache.column("document")
    for number, file in enumerate(text_files(str(corpus))):
        assert whole.cache.tokenizer.decode(token[document == number]) == file.read_text()
    first = whole.cache.contexts.tokens(0)
    assert whole.cache.tokenizer.decode(first).startswith("[CLS] ")


def test_rows_do_not_depend_on_the_batch(whole: Whole, tmp_path: Path) -> None:
    for size in (1, 7, 1000):
        cache = Cache(tmp_path / str(size))
        whole.harvest._replace(batch_size=size).fill({LAYER: cache}, CPU)
        assert torch.allclose(all_rows(cache), all_rows(whole.cache), atol=2e-3)
        assert torch.equal(cache.column("context"), whole.cache.column("context"))
        assert torch.equal(cache.column("position"), whole.cache.column("position"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_types_of_values(dtype: Any, whole: Whole, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    whole.harvest._replace(dtype=dtype).fill({LAYER: cache}, CPU)
    assert all_rows(cache).dtype == getattr(torch, dtype)
    assert torch.allclose(all_rows(cache).float(), all_rows(whole.cache).float(), atol=2e-2)


def test_several_layers_in_one_pass_as_each_alone(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []
    run = LanguageModel.activations
    monkeypatch.setattr(LanguageModel, "activations", lambda self, *a: passes.append(a[1]) or run(self, *a))
    caches = {layer: Cache(tmp_path / layer) for layer in (LAYER, "embeddings", "encoder.layer.1")}
    whole.harvest.fill(caches, CPU)
    assert all(sorted(layers) == sorted(caches) for layers in passes)
    assert content(caches[LAYER].folder) == content(whole.cache.folder)
    passes.clear()
    whole.harvest.fill(caches, CPU)
    assert passes == []
    shutil.rmtree(caches["embeddings"].folder)
    whole.harvest.fill(caches, CPU)
    assert all(layers == ["embeddings"] for layers in passes)
    assert passes


def test_continued_after_the_last_whole_shard(whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, write = Cache(tmp_path / "cache"), Cache.write
    written: list[int] = []

    def stopped(self: Cache, number: int, *rest: Any) -> None:
        if number == 3:
            (self.folder / "rows" / ".3.safetensors.x").write_bytes(b"half")
            raise KeyboardInterrupt
        written.append(number)
        write(self, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Cache, "write", stopped)
        with pytest.raises(KeyboardInterrupt):
            whole.harvest.fill({LAYER: cache}, CPU)
        assert written == [0, 1, 2]
        assert cache.manifest() is None
    times = {number: (cache.folder / "rows" / f"{number}.safetensors").stat().st_mtime_ns for number in written}
    whole.harvest._replace(batch_size=5).fill({LAYER: Cache(cache.folder)}, CPU)
    for number, time in times.items():
        assert (cache.folder / "rows" / f"{number}.safetensors").stat().st_mtime_ns == time
    assert content(cache.folder).keys() == content(whole.cache.folder).keys()
    assert torch.allclose(all_rows(cache), all_rows(whole.cache), atol=2e-3)


@pytest.mark.parametrize("fault", ["change", "truncate", "lose", "lose the record"])
def test_a_damaged_shard_is_harvested_again_alone(fault: str, whole: Whole, tmp_path: Path) -> None:
    cache = whole.copy(tmp_path)
    file = cache.folder / "rows" / "2.safetensors"
    if fault == "change":
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    elif fault == "truncate":
        file.write_bytes(file.read_bytes()[:-1])
    elif fault == "lose":
        file.unlink()
    else:
        file.write_bytes(b"")
        file.with_suffix(".json").unlink()
    before = {f: f.stat().st_mtime_ns for f in file.parent.glob("*.safetensors") if f != file}
    assert not cache.is_whole
    with pytest.warns(UserWarning, match=r"copy is damaged; what is damaged is harvested again$"):
        whole.harvest.fill({LAYER: cache}, CPU)
    assert content(cache.folder) == content(whole.cache.folder)
    assert all(f.stat().st_mtime_ns == time for f, time in before.items())


@pytest.mark.parametrize("name", ["contexts.safetensors", "tokenizer/tokenizer.json"])
def test_text_that_is_damaged_is_written_again(name: str, whole: Whole, tmp_path: Path) -> None:
    cache = whole.copy(tmp_path)
    (cache.folder / name).write_bytes(b"")
    with pytest.warns(UserWarning, match="is damaged"):
        whole.harvest.fill({LAYER: cache}, CPU)
    assert content(cache.folder) == content(whole.cache.folder)


def test_a_cache_of_another_version_is_replaced(whole: Whole, tmp_path: Path) -> None:
    cache = whole.copy(tmp_path)
    for file in cache.folder.rglob("*.json"):
        if file.parent.name != "tokenizer":
            file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 99, "further": 1}))
    shutil.copy(cache.folder / "rows" / "0.safetensors", cache.folder / "rows" / "6.safetensors")
    assert cache.manifest() is None
    message = r"copy was written by another version of this package \(99, not 2\); it is harvested again$"
    with pytest.warns(UserWarning, match=message):
        whole.harvest.fill({LAYER: cache}, CPU)
    assert content(cache.folder) == content(whole.cache.folder)


def test_rows_of_large_norm_are_left_out(whole: Whole, tmp_path: Path) -> None:
    layer, ratio = "encoder.layer.0.attention.self", 1.2  # before any layer norm
    full, cache = Cache(tmp_path / "full"), Cache(tmp_path / "cache")
    whole.harvest.fill({layer: full}, CPU)
    whole.harvest._replace(max_norm_ratio=ratio).fill({layer: cache}, CPU)
    norm = all_rows(full).float().norm(dim=1)
    median = norm[: len(load_file(full.folder / "rows" / "0.safetensors")["rows"])].median()
    keep = norm <= ratio * median
    assert 0 < int(keep.sum()) < len(keep) == 540
    manifest = cache.manifest()
    assert manifest is not None
    assert (manifest.rows, manifest.left_out) == (int(keep.sum()), int((~keep).sum()))
    assert manifest.median_norm == pytest.approx(float(median))
    assert torch.equal(all_rows(cache), all_rows(full)[keep])
    for name in ("token", "position", "context", "document"):
        assert torch.equal(cache.column(name), full.column(name)[keep])
    assert torch.equal(cache.contexts.token, full.contexts.token)
    (cache.folder / "rows" / "0.safetensors").unlink()  # the others were cut at its median
    (cache.folder / "rows" / "0.json").unlink()
    before = all_rows(full)[keep]
    with pytest.warns(UserWarning, match="is damaged"):
        whole.harvest._replace(max_norm_ratio=ratio).fill({layer: cache}, CPU)
    assert torch.equal(all_rows(cache), before)


def test_values_too_large_for_their_type(bert: Path, corpus: Path, tmp_path: Path) -> None:
    large = harvest(bert, corpus)
    large.model.model.get_submodule(LAYER).register_forward_hook(lambda module, given, output: output * 1e5)
    message = r"data\.dtype=float16: .* \(expected bfloat16 or float32, if the model is sound\)$"
    with pytest.raises(ConfigError, match=message):
        large.fill({LAYER: Cache(tmp_path / "cache")}, CPU)
    large._replace(dtype="bfloat16").fill({LAYER: Cache(tmp_path / "cache")}, CPU)


def test_what_it_takes_is_told_before_and_refused(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = Cache(tmp_path / "cache")
    usage = shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000)  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        message = (
            r"data\.n: the activations take 1\.1 MB, and 1\.0 kB are free in .* \(expected fewer rows, or data\.root "
        )
        with pytest.raises(ConfigError, match=message):
            whole.harvest.fill({LAYER: cache}, CPU)
    assert not cache.folder.exists()
    whole.harvest.fill({LAYER: cache}, CPU)
    assert "harvesting 540 rows of encoder.layer.0 in m: 1.1 MB of " in capsys.readouterr().out


def test_a_full_disk_keeps_whole_shards(whole: Whole, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    message = rf"data\.root: cannot write activations into {tmp_path} \(File too large\); .* Whole shards are kept$"
    with _room_for(5000), pytest.raises(OSError, match=message):
        whole.harvest._replace(dtype="float32").fill({LAYER: cache}, CPU)
    whole.harvest.fill({LAYER: cache}, CPU)
    assert content(cache.folder) == content(whole.cache.folder)


def _fill(bert: Path, corpus: Path, folder: Path) -> None:
    warnings.simplefilter("error")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparse_ae.data.activations.tokens.SHARD_ROWS", 4)
        harvest(bert, corpus).fill({LAYER: Cache(folder)}, CPU)


@pytest.mark.slow
def test_killed_in_the_middle(bert: Path, corpus: Path, tmp_path: Path) -> None:
    _fill(bert, corpus, tmp_path / "whole")
    expected = content(tmp_path / "whole")
    for shard in (0, 20, 50):
        folder = tmp_path / str(shard)
        worker = CONTEXT.Process(target=_fill, args=(bert, corpus, folder))
        worker.start()
        wait_until((folder / "rows" / f"{shard}.safetensors").exists)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        assert not (folder / "manifest.json").exists()
        _fill(bert, corpus, folder)
        assert content(folder) == expected


@pytest.mark.slow
def test_several_processes_harvest_at_once(bert: Path, corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    workers = [CONTEXT.Process(target=_fill, args=(bert, corpus, folder)) for _ in range(3)]
    for worker in workers:
        worker.start()
    wait_until((folder / "rows" / "0.safetensors").exists)
    first = (folder / "rows" / "0.safetensors").stat().st_mtime_ns
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert (folder / "rows" / "0.safetensors").stat().st_mtime_ns == first
    assert Cache(folder).is_whole
