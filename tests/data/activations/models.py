"""Two-layer transformers with random weights and their tokenisers, made offline, and text for them."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tests.data.activations.tokenizers import END, byte_level

WORDS = ["the", "cat", "dog", "sat", "ran", "on", "under", "mat", "moon", ".", "!"]
LONGEST = 32
DIM = 16


def make_bert(folder: Path, layers: int = 2, longest: int = LONGEST) -> Path:
    """A BERT with a masked-language head, whose tokeniser puts [CLS] and [SEP] around a text."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = _tokenizer(special, "[UNK]")
    around = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(special) + len(WORDS),
        hidden_size=DIM,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=longest,
    )
    return _saved(BertForMaskedLM, config, folder)


def make_gpt2(folder: Path) -> Path:
    """A GPT-2, whose tokeniser puts nothing around a text and has one special token."""
    tokenizer = _tokenizer([END], END)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, bos_token=END, unk_token=END, model_max_length=LONGEST
    )
    return _gpt2(folder, fast)


def make_byte_gpt2(folder: Path) -> Path:
    """A GPT-2 whose tokens are bytes."""
    return _gpt2(folder, byte_level())


def _gpt2(folder: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    tokenizer.save_pretrained(folder)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=DIM,
        n_layer=2,
        n_head=2,
        n_positions=LONGEST,
        bos_token_id=0,
        eos_token_id=0,
    )
    return _saved(GPT2LMHeadModel, config, folder)


def make_corpus(folder: Path, n: int = 30) -> Path:
    """Short documents of 9 to 27 words, no two alike."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for i in range(n):
        words = torch.randint(len(WORDS), (9 + 9 * (i % 3),), generator=generator).tolist()
        (folder / f"{i}.txt").write_text(" ".join(WORDS[word] for word in words))
    return folder


def _tokenizer(special: list[str], unknown: str) -> Tokenizer:
    vocabulary = {word: i for i, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def _saved(kind: Any, config: Any, folder: Path) -> Path:
    torch.manual_seed(0)
    kind(config).save_pretrained(folder)
    return folder
