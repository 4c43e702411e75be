"""Predictions with replaced activations and the analysis of them, on tiny models that have learned a little."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, T5Config, T5Model

from sparse_ae.analysis import Subject, loss_recovered
from sparse_ae.analysis.base import Result
from sparse_ae.analysis.loading import test_sample as sample_of
from sparse_ae.config.errors import ConfigError
from sparse_ae.data import Activations
from sparse_ae.data.activations.files import identity
from sparse_ae.data.activations.predictions import Predictions
from sparse_ae.plotting.style import to_png
from tests.data.activations.models import DIM
from tests.helpers import Cli

LAYERS = {"gpt2": "h.0", "bert": "encoder.layer.0"}
CPU = torch.device("cpu")
SENTENCE = "the cat sat on mat . dog ran under moon ! "


class Coder:
    """Codes are the activations; ``decoded`` makes reconstructions of them."""

    def __init__(self, decoded: Callable[[Tensor], Tensor]) -> None:
        self.decoded, self.dictionary, self.latent_dim = decoded, torch.eye(DIM), DIM

    def encode(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.float32
        return x

    def decode(self, z: Tensor) -> Tensor:
        return self.decoded(z)


def same(a: Tensor) -> Tensor:
    return a


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents that begin with the same sentence and end at different words."""
    folder = tmp_path_factory.mktemp("sentences")
    for i in range(24):
        (folder / f"{i}.txt").write_text(" ".join((SENTENCE.split() * 2)[: 17 + i % 5]))
    return folder


@pytest.fixture(scope="module")
def models(bert: Path, gpt2: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models that have learned the beginning of the sentence: by the word before, or by position."""
    found = {}
    for name, folder, kind in (("gpt2", gpt2, AutoModelForCausalLM), ("bert", bert, AutoModelForMaskedLM)):
        found[name] = Path(shutil.copytree(folder, tmp_path_factory.mktemp(name) / "model"))
        tokenizer, model = AutoTokenizer.from_pretrained(folder), kind.from_pretrained(folder).eval()
        ids = tokenizer(" ".join(SENTENCE.split()[:10]), return_tensors="pt")["input_ids"].repeat(8, 1)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        generator = torch.Generator().manual_seed(0)
        for _ in range(40):
            is_masked = (torch.rand(ids.shape, generator=generator) < 0.3) & (name == "bert")
            labels = ids.masked_fill(~is_masked, -100) if name == "bert" else ids
            optimizer.zero_grad()
            model(ids.masked_fill(is_masked, 4), labels=labels).loss.backward()
            optimizer.step()
        model.save_pretrained(found[name])
    return found


@pytest.fixture(scope="module")
def options(models: dict[str, Path], text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    root = tmp_path_factory.mktemp("root")
    common = {"text": str(text), "context": 12, "batch_size": 16, "root": str(root), "packing": "pad", "test_size": 0.3}
    return {name: common | {"model": str(models[name]), "layer": LAYERS[name]} for name in LAYERS}


def prepared(options: dict[str, Any], **changes: Any) -> Activations:
    data = Activations(**options | changes)
    data.prepare_data()
    return data


def subject(data: Activations, decoded: Callable[[Tensor], Tensor]) -> Subject:
    coder: Any = Coder(decoded)
    return Subject(coder, sample_of(coder, data, "cpu", 0.1))


def analysed(data: Activations, decoded: Callable[[Tensor], Tensor], **options: Any) -> Result:
    return loss_recovered.analyse(subject(data, decoded), **{"n_contexts": None} | options)


def predicted(data: Activations, replace: Callable[[Tensor], Tensor], **options: Any) -> Predictions:
    language = data.language("test")
    return language.predictions({"new": replace}, **{"n_contexts": None, "seed": 0, "device": CPU} | options)


@pytest.mark.parametrize(("name", "packing"), [("gpt2", "pad"), ("gpt2", "pack"), ("bert", "pad")])
def test_the_ends_of_the_scale(name: str, packing: str, options: dict[str, dict[str, Any]]) -> None:
    data = prepared(options[name], packing=packing)
    numbers = analysed(data, same).numbers
    assert numbers["loss_original"] == numbers["loss_reconstruction"] < numbers["loss_zero"]
    assert numbers["loss_recovered"] == 1
    assert numbers["standard_error"]["loss_recovered"] == 0
    assert numbers["loss_increase"] == numbers["kl_reconstruction"] == 0
    assert numbers["kl_zero"] > 0.01
    numbers = analysed(data, torch.zeros_like).numbers
    assert numbers["loss_recovered"] == 0
    assert numbers["loss_zero"] == numbers["loss_reconstruction"]
    assert numbers["kl_zero"] == numbers["kl_reconstruction"]
    mean = torch.cat([data.split("train").rows.read(0, data.train_size).double()]).mean(dim=0).float()
    numbers = analysed(data, lambda a: mean.expand_as(a)).numbers
    assert numbers["loss_recovered_from_mean"] in (None, pytest.approx(0, abs=1e-4))
    assert numbers["loss_mean"] == pytest.approx(numbers["loss_reconstruction"], rel=1e-5)
    half = analysed(data, lambda a: 0.9 * a).numbers
    assert half["kl_reconstruction"] > 0
    assert half["standard_error"]["kl_reconstruction"] > 0


def test_two_contexts_of_a_causal_model_by_hand(options: dict[str, dict[str, Any]], models: dict[str, Path]) -> None:
    data = prepared(options["gpt2"])
    found = predicted(data, lambda a: 0.5 * a + 1, n_contexts=2)
    numbers = found.context.unique().tolist()
    assert len(numbers) == 2
    model = AutoModelForCausalLM.from_pretrained(models["gpt2"]).eval()
    losses, replaced, kls = [], [], []
    for number in numbers:
        token = data.contexts.tokens(number)[None].long()
        with torch.no_grad():
            log_p = model(token).logits[0, :-1].log_softmax(dim=-1)
            hook = model.transformer.h[0].register_forward_hook(lambda m, a, out: 0.5 * out + 1)
            log_q = model(token).logits[0, :-1].log_softmax(dim=-1)
            hook.remove()
        losses += [-float(log_p[i, token[0, i + 1]]) for i in range(len(log_p))]
        replaced += [-float(log_q[i, token[0, i + 1]]) for i in range(len(log_p))]
        kls += (log_p.exp() * (log_p - log_q)).sum(dim=-1).tolist()
    assert found.loss["original"].tolist() == pytest.approx(losses, rel=1e-4)
    assert found.loss["new"].tolist() == pytest.approx(replaced, rel=1e-4)
    assert found.kl["new"].tolist() == pytest.approx(kls, rel=1e-3, abs=1e-6)
    assert len(losses) == sum(len(data.contexts.tokens(number)) - 1 for number in numbers)


def test_a_masked_model_by_hand(options: dict[str, dict[str, Any]], models: dict[str, Path]) -> None:
    data = prepared(options["bert"])
    language = data.language("test")
    seen: list[Tensor] = []
    load = language.load

    def loaded() -> Any:
        model = load()
        model.model.register_forward_pre_hook(lambda m, a, k: seen.append(k["input_ids"]), with_kwargs=True)
        return model

    found = language._replace(load=loaded).predictions({"new": torch.zeros_like}, n_contexts=2, seed=3, device=CPU)
    model = AutoModelForMaskedLM.from_pretrained(models["bert"]).eval()
    first, second = found.context.unique().tolist()
    given = seen[-1]
    for row, number in enumerate((first, second)):
        token = data.contexts.tokens(number).long()
        masked = (given[row, : len(token)] != token).nonzero()[:, 0]
        inner = len(token) - 2
        assert len(masked) == max(1, round(0.15 * inner)) == int((found.context == number).sum())
        assert (given[row, masked] == 4).all()
        assert not {0, len(token) - 1} & set(masked.tolist())  # neither [CLS] nor [SEP]
        with torch.no_grad():
            log_p = model(given[row : row + 1, : len(token)]).logits[0].log_softmax(dim=-1)
            hook = model.bert.encoder.layer[0].register_forward_hook(lambda m, a, out: _but_ends(out))
            log_q = model(given[row : row + 1, : len(token)]).logits[0].log_softmax(dim=-1)
            hook.remove()
        own = found.context == number
        assert found.loss["original"][own].tolist() == pytest.approx((-log_p[masked, token[masked]]).tolist(), rel=1e-4)
        assert found.loss["new"][own].tolist() == pytest.approx((-log_q[masked, token[masked]]).tolist(), rel=1e-4)
        expected = F.kl_div(log_q[masked], log_p[masked], log_target=True, reduction="none").sum(dim=-1)
        assert found.kl["new"][own].tolist() == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-6)


def test_special_tokens_are_never_masked(options: dict[str, dict[str, Any]]) -> None:
    data = prepared(options["bert"], special_tokens=True, context=5)
    language = data.language("test")
    batches = list(language._batches(language.load(), None, 0))
    token = torch.cat([batch.token.flatten()[batch.batch.replaced] for batch in batches])
    assert {2, 3} < set(token.tolist())  # rows, and their activations are replaced
    target = torch.cat([batch.target for batch in batches])
    assert not {2, 3} & set(target.tolist())
    assert len(target) == len(data.tokens("test").context.unique())  # one of three words


def _but_ends(output: Tensor) -> Tensor:
    """Zeros, but for the first and the last token."""
    kept = torch.zeros_like(output)
    kept[:, [0, -1]] = output[:, [0, -1]]
    return kept


@pytest.mark.parametrize(("name", "layer"), [("gpt2", "h.0"), ("bert", "encoder.layer.0.attention.self")])
def test_only_rows_of_the_test_split_are_replaced(name: str, layer: str, options: dict[str, dict[str, Any]]) -> None:
    """Packed contexts hold documents of several splits; some rows are left out for their norm."""
    data = prepared(options[name], packing="pack", max_norm_ratio=1.02, layer=layer)
    manifest = data.cache.manifest()
    assert manifest is not None
    assert manifest.left_out > 0
    given: list[Tensor] = []

    def replace(a: Tensor) -> Tensor:
        given.append(a)
        return a

    predicted(data, replace)
    rows = torch.cat(given)
    assert len(rows) == data.sizes["test"]
    tokens = data.tokens("test")
    if name == "gpt2":  # the text is as it was harvested
        order = (100 * tokens.context + tokens.position).argsort()
        known = data.cache.rows.take(data.language("test").rows.index[order])  # type: ignore[attr-defined]
        assert torch.allclose(rows, known.float(), atol=2e-3)


def test_other_places_keep_their_activations(options: dict[str, dict[str, Any]]) -> None:
    data = prepared(options["bert"], packing="pack", max_norm_ratio=1.02)
    language = data.language("test")
    outputs: list[Tensor] = []
    load = language.load

    def loaded() -> Any:
        model = load()
        model.model.bert.encoder.layer[1].register_forward_pre_hook(lambda m, a: outputs.append(a[0]))
        return model

    language = language._replace(load=loaded)
    language.predictions({"new": torch.zeros_like}, n_contexts=None, seed=0, device=CPU)
    (_, original, replaced), tokens = outputs, data.tokens("test")  # one batch; the first pass checks the model
    is_row = torch.zeros(original.shape[:2], dtype=torch.bool)
    is_row[tokens.context.unique(return_inverse=True)[1], tokens.position] = True
    assert 0 < int(is_row.sum()) < is_row.numel()
    assert (replaced[is_row] == 0).all()
    assert torch.equal(replaced[~is_row], original[~is_row])


@pytest.mark.parametrize("name", LAYERS)
def test_a_batch_changes_nothing(
    name: str, options: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = prepared(options[name])
    first, again = predicted(data, torch.zeros_like), predicted(data, torch.zeros_like)
    assert all(torch.equal(first.loss[key], again.loss[key]) for key in first.loss)
    monkeypatch.setattr("sparse_ae.data.activations.predictions._LOGITS_AT_ONCE", 1)
    alone = predicted(data, torch.zeros_like)
    assert torch.equal(alone.context, first.context)
    for key in first.loss:
        assert torch.allclose(alone.loss[key], first.loss[key], atol=1e-5)
    if name == "bert":
        other = predicted(data, torch.zeros_like, seed=1)
        assert not torch.allclose(other.loss["original"].mean(), first.loss["original"].mean(), atol=1e-6)
        part = predicted(data, torch.zeros_like, n_contexts=3)
        own = torch.isin(first.context, part.context)
        assert torch.allclose(first.loss["original"][own], part.loss["original"], atol=1e-5)


def test_numbers_and_arrays_agree(options: dict[str, dict[str, Any]]) -> None:
    data = prepared(options["gpt2"])
    result = analysed(data, lambda a: 0.9 * a)
    numbers, arrays = result.numbers, result.arrays
    n, losses, kls = (np.asarray(arrays[key]) for key in ("predictions", "losses", "kls"))
    assert (numbers["predictions"], numbers["contexts"]) == (n.sum(), len(n))
    means = dict(zip(arrays["loss_of"].tolist(), losses @ n / n.sum(), strict=True))
    assert list(means) == ["original", "reconstruction", "mean", "zero"]
    for key, value in means.items():
        assert numbers[f"loss_{key}"] == pytest.approx(value)
    for key, value in zip(arrays["kl_of"].tolist(), kls @ n / n.sum(), strict=True):
        assert numbers[f"kl_{key}"] == pytest.approx(value)
    recovered = (means["zero"] - means["reconstruction"]) / (means["zero"] - means["original"])
    assert numbers["loss_recovered"] == pytest.approx(recovered)
    assert numbers["groups"] == len(data.tokens("test").document.unique())
    assert numbers["predicts"] == "next"
    assert to_png(result.figures["loss_recovered"]).startswith(b"\x89PNG")
    json.dumps(numbers, allow_nan=False)


def test_standard_errors_against_the_jackknife() -> None:
    generator = torch.Generator().manual_seed(0)
    group = torch.randint(60, (600,), generator=generator)
    whole = torch.rand(600, generator=generator).double() + 1
    part = 0.3 * whole + 0.2 * torch.randn(60, generator=generator).double()[group]
    ratio = loss_recovered.Ratio.of(part, whole, group)
    left_out = torch.stack([part[group != g].sum() / whole[group != g].sum() for g in range(60)])
    jackknife = (59 / 60 * (left_out - left_out.mean()).square().sum()).sqrt()
    assert ratio.value == pytest.approx(float(part.sum() / whole.sum()))
    assert ratio.error == pytest.approx(float(jackknife), rel=0.05)


def test_what_is_undefined_is_none(options: dict[str, dict[str, Any]]) -> None:
    one = torch.zeros(3, dtype=torch.int64)
    assert loss_recovered.Ratio.of(torch.ones(3), torch.zeros(3), one) == (None, None)
    assert loss_recovered.Ratio.of(torch.ones(3), -torch.ones(3), one) == (None, None)
    assert loss_recovered.Ratio.of(torch.ones(3), torch.ones(3), one) == (1, None)
    result = analysed(prepared(options["gpt2"]), lambda a: a * torch.inf)
    assert result.numbers["loss_reconstruction"] is None
    assert result.numbers["loss_recovered"] is None
    assert result.numbers["loss_zero"] > 0
    json.dumps(result.numbers, allow_nan=False)
    assert to_png(result.figures["loss_recovered"]).startswith(b"\x89PNG")


def _without_head(folder: Path) -> None:
    AutoModel.from_pretrained(folder).save_pretrained(folder)


def _without_part(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights = {key: value for key, value in weights.items() if "transform.dense" not in key}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _changed(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({key: value * 1.5 for key, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})


def _no_mask_token(folder: Path) -> None:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).exists():
            known = json.loads((folder / name).read_text())
            known.pop("mask_token", None)
            (folder / name).write_text(json.dumps(known))


def _encoder_decoder(folder: Path) -> None:
    T5Model(T5Config(vocab_size=16, d_model=DIM, d_kv=4, d_ff=8, num_layers=1, num_heads=1)).save_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_head, r"its files lack weights of BertForMaskedLM, which predicts tokens \(cls\.predictions\.bias, .*"
         r"\(expected a model with its language-model head\)$"),
        (_without_part, r"its files lack weights of .* \(cls\.predictions\.transform\.dense\.bias, cls"),
        (_changed, r"its encoder\.layer\.0 does not give the activations in the cache; its files have changed since"),
        (_no_mask_token, r"its tokeniser has no mask token \(expected one with \[MASK\] or <mask>\)$"),
        (_encoder_decoder, r"t5 predicts no tokens \(expected a causal or a masked language model\)$"),
        (shutil.rmtree, r"no such folder$"),
    ],
)  # fmt: skip
def test_models_that_cannot_predict(
    change: Callable[[Path], None], message: str, options: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    model = Path(shutil.copytree(options["bert"]["model"], tmp_path / "model"))
    content = identity({"model": str(model), "text": options["bert"]["text"]})
    data = prepared(options["bert"], content=content, model=str(model))
    change(model)
    with pytest.raises(ConfigError, match=rf"^data\.model={model}: .*{message}") as error:
        analysed(data, same)
    assert "\n" not in str(error.value)


def test_a_causal_model_whose_head_is_its_embedding(options: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """Files of GPT-2 without a head are complete: its head is the token embedding."""
    model = Path(shutil.copytree(options["gpt2"]["model"], tmp_path / "model"))
    data = prepared(options["gpt2"])
    expected = analysed(data, torch.zeros_like).numbers
    data.model = str(model)
    _without_head(model)
    assert analysed(data, torch.zeros_like).numbers == expected


def test_no_text_to_test_on(options: dict[str, dict[str, Any]]) -> None:
    data = prepared(options["gpt2"], test_size=0)
    with pytest.raises(ConfigError, match=r"^data\.test_size: leaves no token to predict \(expected more text to "):
        predicted(data, same)


def test_of_runs_on_the_command_line(options: dict[str, dict[str, Any]], cli: Cli, tmp_path: Path) -> None:
    def run(command: str, *given: str) -> str:
        outcome = cli(command, *given)
        assert outcome.code == 0, outcome.err
        return outcome.out

    def data(name: str) -> list[str]:
        return ["data=activations", f"hydra.run.dir={name}", *(f"data.{k}={v}" for k, v in options[name].items())]

    run("sparse-ae-fit", *data("gpt2"), "coder=pca", "coder.latent_dim=2", "analysis=[]")
    told = run("sparse-ae-analyse", "run=gpt2", "analysis=loss_recovered")
    assert "loss_recovered: loss recovered (0: as with zeros, 1: as without replacement): 0." in told
    few = ["model=linear", "sparsity=topk", "sparsity.k=1", "model.latent_dim=32", "trainer.max_epochs=1"]
    run("sparse-ae-train", *data("bert"), *few, "analysis=[loss_recovered]")
    for name, predicts in (("gpt2", "next"), ("bert", "masked")):
        folder = tmp_path / name / "analysis" / "loss_recovered"
        numbers = json.loads((folder / "result.json").read_text())
        assert numbers["predicts"] == predicts
        assert numbers["loss_original"] < numbers["loss_zero"]
        assert numbers["kl_reconstruction"] > 0
        assert (folder / "loss_recovered.png").exists()
