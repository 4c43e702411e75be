"""Hooked layers against the model's own ``output_hidden_states``; what is no model, layer or tokeniser."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModel,
    AutoTokenizer,
    BartConfig,
    BartModel,
    CLIPConfig,
    CLIPModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5Model,
    ViTConfig,
    ViTModel,
)

from sparse_ae.config.errors import ConfigError
from sparse_ae.data.activations.files import identity, model_folder
from sparse_ae.data.activations.language_model import LanguageModel
from sparse_ae.data.activations.tokens import TokenBatch
from tests.data.activations.models import DIM

HIDDEN = {
    "bert": {"embeddings": 0, "encoder.layer.0": 1, "encoder.layer.1": 2},
    "gpt2": {"drop": 0, "h.0": 1, "ln_f": 2},
}
"""Number of the hidden state that a layer gives."""


def batch() -> TokenBatch:
    """Two contexts of five and three tokens, all of whose tokens give rows."""
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    token = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]])
    return TokenBatch(token, mask, mask.flatten().nonzero()[:, 0])


def hidden_states(folder: Path) -> tuple[Tensor, ...]:
    """The model's own account of its layers, ``(B, T, D)`` each."""
    model = AutoModel.from_pretrained(folder).eval()
    token, mask, _ = batch()
    with torch.no_grad():
        states: tuple[Tensor, ...] = model(token, attention_mask=mask, output_hidden_states=True).hidden_states
    return states


@pytest.mark.parametrize("name", HIDDEN)
def test_layers_give_the_hidden_states(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    model, states = LanguageModel(folder, name), hidden_states(folder)
    together = model.activations(batch(), list(HIDDEN[name]))
    for layer, number in HIDDEN[name].items():
        expected = states[number][batch().mask.bool()]
        assert model.width(layer) == DIM
        assert torch.equal(model.activations(batch(), [layer])[layer], expected)
        assert torch.equal(together[layer], expected)


def test_the_model_stops_after_the_last_layer(bert: Path) -> None:
    model = LanguageModel(bert, "bert")
    ran: list[str] = []
    for name, module in model.model.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    model.activations(batch(), ["encoder.layer.0", "embeddings"])
    assert "encoder.layer.0" in ran
    assert not any(name.startswith("encoder.layer.1") or name in ("encoder", "pooler", "") for name in ran)
    ran.clear()
    model.activations(batch(), ["encoder.layer.1"])
    assert "encoder.layer.1" in ran
    assert "pooler" not in ran


def test_the_first_of_several_outputs(bert: Path) -> None:
    model = LanguageModel(bert, "bert")
    assert model.width("encoder.layer.1.attention.self") == DIM  # it gives a tuple


@pytest.mark.parametrize(
    ("name", "layer", "message"),
    [
        ("bert", "encoder.layer.7", r"BertModel has no such layer \(expected a module such as encoder\.layer\.[01]"),
        ("gpt2", "transformer.h.1", r"layer=.*: GPT2Model has no such layer \(expected a module such as h\.1\)$"),
        ("bert", "pooler", r"for 2 contexts of 3 tokens it gives a tensor of shape \(2, 16\) \(expected a layer "),
        ("bert", "encoder", r"layer=encoder: .* it gives a BaseModelOutput\w*"),
        ("gpt2", "wpe", r"layer=wpe: .* it gives a tensor of shape \(1, 3, 16\)"),
        ("gpt2", "h", r"layer=h: m does not run it on text"),
    ],
)  # fmt: skip
def test_what_is_no_layer(name: str, layer: str, message: str, request: pytest.FixtureRequest) -> None:
    model = LanguageModel(request.getfixturevalue(name), "m")
    with pytest.raises(ConfigError, match=message):
        model.width(layer)


def test_a_tuple_without_a_tensor_per_token(gpt2: Path) -> None:
    model = LanguageModel(gpt2, "m")
    model.model.h[0].register_forward_hook(lambda module, given, output: (output[0, 0, :2], None))
    with pytest.raises(ConfigError, match=r"it gives a tuple that begins with a tensor of shape \(2,\)"):
        model.width("h.0")


def test_the_longest_context(bert: Path, gpt2: Path) -> None:
    assert LanguageModel(bert, "bert").longest_context == 32  # by the model
    model = LanguageModel(gpt2, "gpt2")
    model.tokenizer.model_max_length = 30
    assert model.longest_context == 30


def test_the_longest_context_of_a_model_that_counts_from_padding(bert: Path, tmp_path: Path) -> None:
    config = RobertaConfig(padding_idx=1, pad_token_id=1, max_position_embeddings=12, **SMALL)
    model = LanguageModel(saved(RobertaModel(config), bert, tmp_path), "m")
    assert model.longest_context == 10
    for length in (10, 11):
        token = torch.full((1, length), 5)
        fits = TokenBatch(token, torch.ones_like(token), torch.arange(length))
        with nullcontext() if length == 10 else pytest.raises((RuntimeError, IndexError)):
            model.activations(fits, ["encoder.layer.0"])


SMALL: dict[str, Any] = {
    "vocab_size": 16,
    "hidden_size": DIM,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


def saved(model: Any, tokenizer: Path, into: Path) -> Path:
    """The folder of ``model`` with the tokeniser of another one."""
    model.save_pretrained(into / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, into / "model" / name)
    return into / "model"


@pytest.mark.parametrize("kind", [T5Model, BartModel])
def test_decoders_of_an_encoder(kind: Any, bert: Path, tmp_path: Path) -> None:
    """Their tokens are those of the text, moved by one: rows and tokens would not belong together."""
    t5 = T5Config(vocab_size=16, d_model=DIM, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    bart = BartConfig(
        **{f"{part}_{key}": value for part in ("encoder", "decoder") for key, value in BART.items()},
        vocab_size=16,
        d_model=DIM,
        max_position_embeddings=32,
    )
    model = LanguageModel(saved(kind(t5 if kind is T5Model else bart), bert, tmp_path), "m")
    layer = "block.0" if kind is T5Model else "layers.0"
    assert model.width(f"encoder.{layer}") == DIM
    message = rf"layer=decoder\.{layer}: \w+ reads the text with its encoder, .* \(expected a layer of the encoder\)$"
    with pytest.raises(ConfigError, match=message):
        model.width(f"decoder.{layer}")


BART = {"layers": 1, "attention_heads": 2, "ffn_dim": 16}


def test_models_of_pictures(bert: Path, tmp_path: Path) -> None:
    sizes = {key: value for key, value in SMALL.items() if key != "vocab_size"}
    folder = saved(ViTModel(ViTConfig(image_size=8, patch_size=4, **sizes)), bert, tmp_path)
    with pytest.raises(ConfigError, match=r"model=m: ViTModel reads no text \(expected a language model\)$"):
        LanguageModel(folder, "m")


def test_a_model_that_needs_more_than_text(bert: Path, tmp_path: Path) -> None:
    text = SMALL | {"bos_token_id": 2, "eos_token_id": 3}
    parts = {"text_config": text, "vision_config": SMALL | {"image_size": 8, "patch_size": 4}, "projection_dim": 8}
    model = LanguageModel(saved(CLIPModel(CLIPConfig(**parts)), bert, tmp_path), "m")
    message = r"model=m: CLIPModel cannot be run on text alone \(AttributeError: .*\) \(expected a language model\)$"
    with pytest.raises(ConfigError, match=message):
        model.width("text_projection")


def test_padding_that_the_model_does_not_know(gpt2: Path, tmp_path: Path) -> None:
    """Users add a pad token to GPT-2's tokeniser, and rarely to its embedding."""
    folder = copied(gpt2, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    model = LanguageModel(folder, "m")
    assert (model.tokenizer.pad_token_id, model.padding) == (12, 0)
    model.check_tokens(torch.tensor([0, 11]))
    message = (
        r"model=m: its tokeniser gives token 12, and GPT2Model knows 12 \(expected a model with its own tokeniser\)$"
    )
    with pytest.raises(ConfigError, match=message):
        model.check_tokens(torch.tensor([12, 0]))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_attention_and_any_type(attention: str, dtype: torch.dtype, bert: Path, tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(bert, attn_implementation=attention, dtype=dtype).eval()
    folder = saved(model, bert, tmp_path)
    token, mask, _ = batch()
    with torch.no_grad():
        states = model(token, attention_mask=mask, output_hidden_states=True).hidden_states
    loaded = LanguageModel(folder, "m")
    loaded.model.set_attn_implementation(attention)
    found = loaded.activations(batch(), ["encoder.layer.1"])["encoder.layer.1"]
    assert found.dtype == dtype
    assert torch.equal(found, states[2][mask.bool()])


def copied(folder: Path, into: Path, *without: str) -> Path:
    return Path(shutil.copytree(folder, into / "model", ignore=shutil.ignore_patterns(*without)))


def test_no_tokeniser(bert: Path, tmp_path: Path) -> None:
    folder = copied(bert, tmp_path, "tokenizer.json")
    message = r"model=m: has no tokeniser \(expected tokenizer\.json beside the model\)$"
    with pytest.raises(ConfigError, match=message):
        LanguageModel(folder, "m")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "no_such_type"}, r"cannot be loaded \(.*no_such_type.*\) \(expected a model that transf"),
        ({"model_type": "own", "auto_map": {"AutoModel": "own.Own"}}, r"needs Python code of its own, which is not"),
    ],
)  # fmt: skip
def test_models_that_transformers_does_not_know(
    config: dict[str, Any], message: str, bert: Path, tmp_path: Path
) -> None:
    folder = copied(bert, tmp_path)
    (folder / "own.py").write_text("raise SystemExit('was run')")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=message) as error:
        LanguageModel(folder, "m")
    assert "\n" not in str(error.value)


def test_damaged_weights(bert: Path, tmp_path: Path) -> None:
    folder = copied(bert, tmp_path)
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match=r"model=m: cannot be loaded \(") as error:
        LanguageModel(folder, "m")
    assert "\n" not in str(error.value)


def test_weights_that_the_files_lack(bert: Path, tmp_path: Path) -> None:
    """A pooler that the layer does not need may be missing, as it is here anyway."""
    folder = copied(bert, tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights = {key: value for key, value in weights.items() if "layer.1.output.dense" not in key}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    model = LanguageModel(folder, "m")
    assert model.width("encoder.layer.0") == DIM
    message = r"model=m: its files lack weights that encoder\.layer\.1 depends on \(encoder\.layer\.1\.output\.dense\)$"
    with pytest.raises(ConfigError, match=message):
        model.width("encoder.layer.1")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./none", r"model=\./none: no such folder$"),
        ("/no/such/folder", r"model=/no/such/folder: no such folder$"),
        ("org/none", r"neither a folder nor a name in the local cache; data\.download=true fetches it$"),
        ("none", r"model=none: neither a folder nor a name in the local cache"),
        (__file__, r"model=.*: a file \(expected the folder of a model\)$"),
    ],
)  # fmt: skip
def test_no_such_model(model: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        model_folder(model)


def test_a_name_in_the_local_cache(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hugging Face's layout: blobs, links to them in a snapshot, and a branch that names it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    own = tmp_path / "models--org--tiny"
    (own / "snapshots").mkdir(parents=True)
    (own / "refs").mkdir()
    (own / "refs" / "main").write_text("a" * 40)
    shutil.copytree(bert, own / "snapshots" / ("a" * 40))
    folder = model_folder("org/tiny")
    assert folder == own / "snapshots" / ("a" * 40)
    (tmp_path / "notes.txt").write_text("the cat")
    text = str(tmp_path / "notes.txt")
    assert identity({"model": "org/tiny", "text": text}) == identity({"model": str(bert), "text": text})


def test_nothing_is_fetched_unless_asked_for(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client is asked for no file of code."""
    asked: list[dict[str, Any]] = []

    def snapshot(model: str, **options: Any) -> str:
        asked.append(options)
        if options.get("local_files_only"):
            raise LocalEntryNotFoundError("offline")
        return str(bert)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(ConfigError, match=r"data\.download=true fetches it"):
        model_folder("org/tiny")
    assert [options["local_files_only"] for options in asked] == [True]
    assert model_folder("org/tiny", download=True) == bert
    assert [options["local_files_only"] for options in asked] == [True, False]
    assert not any(pattern.endswith(".py") or pattern == "*" for pattern in asked[1]["allow_patterns"])


def test_identity_is_that_of_the_contents(bert: Path, gpt2: Path, tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("the cat")
    first = identity({"model": str(bert), "text": str(text)})
    folder = copied(bert, tmp_path)
    moved = Path(shutil.copy(text, tmp_path / "b.txt"))
    (folder / "README.md").write_text("no weight")
    assert identity({"model": str(folder), "text": str(moved)}) == first
    moved.write_text("the dog")
    others = {identity({"model": str(folder), "text": str(moved)})}
    others.add(identity({"model": str(gpt2), "text": str(text)}))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_attention_heads": 4}))
    others.add(identity({"model": str(folder), "text": str(text)}))
    assert first not in others
    assert len(others) == 3


def test_folders_without_a_model(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat")
    for name in ("model.safetensors", "config.json"):
        folder = copied(bert, tmp_path / name, name)
        with pytest.raises(ConfigError, match=r"model=.*: a folder without a model \(expected config\.json and "):
            identity({"model": str(folder), "text": str(tmp_path / "a.txt")})
