"""Contexts by hand: packing, document borders, special tokens, shards."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from pydoc_data import topics
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sparse_ae.config.errors import ConfigError
from sparse_ae.data.activations.corpus import pieces, text_files
from sparse_ae.data.activations.cutting import cut
from sparse_ae.data.activations.loading import load_tokenizer
from sparse_ae.data.activations.tokens import Contexts, Span, special_ids

TEXTS = ["the cat sat on the mat .", "", "dog ran"]
"""Documents of 7, no and 2 words."""


@pytest.fixture(scope="module")
def of_bert(bert: Path) -> Any:
    return load_tokenizer(bert, "bert")


@pytest.fixture(scope="module")
def of_gpt2(gpt2: Path) -> Any:
    return load_tokenizer(gpt2, "gpt2")


def contexts(tokenizer: Any, texts: list[str] = TEXTS, **options: Any) -> Contexts:
    """Contexts of six tokens, unless ``options`` say otherwise."""
    return cut(enumerate(texts), tokenizer, **{"context": 6, "packing": "pad", "special_tokens": False} | options)


def shown(tokenizer: Any, found: Contexts) -> list[str]:
    """The tokens of each context; those that give rows in capitals."""
    words = tokenizer.convert_ids_to_tokens(found.token.tolist())
    words = [w.upper() if row else w.lower() for w, row in zip(words, found.is_row.tolist(), strict=True)]
    stops = found.start.tolist()
    return [" ".join(words[a:b]) for a, b in pairwise(stops)]


def test_pad_begins_each_document_anew(of_bert: Any) -> None:
    found = contexts(of_bert)
    assert shown(of_bert, found) == [
        "[cls] THE CAT SAT ON [sep]",
        "[cls] THE MAT . [sep]",
        "[cls] DOG RAN [sep]",
    ]
    assert found.document.tolist() == [0] * 11 + [2] * 4
    assert found.column("document").tolist() == [0] * 7 + [2] * 2
    assert found.column("context").tolist() == [0] * 4 + [1] * 3 + [2] * 2
    assert found.column("position").tolist() == [1, 2, 3, 4, 1, 2, 3, 1, 2]
    assert of_bert.decode(found.column("token")) == "the cat sat on the mat . dog ran"
    assert found.rows == 9


def test_pack_joins_documents_with_a_separator(of_bert: Any, of_gpt2: Any) -> None:
    found = contexts(of_bert, packing="pack")
    assert shown(of_bert, found) == [
        "[cls] THE CAT SAT ON [sep]",
        "[cls] THE MAT . [sep] [sep]",
        "[cls] DOG RAN [sep] [sep]",
    ]
    found = contexts(of_gpt2, packing="pack")
    assert shown(of_gpt2, found) == ["THE CAT SAT ON THE MAT", ". <|endoftext|> DOG RAN <|endoftext|>"]
    assert found.column("document").tolist() == [0] * 7 + [2] * 2


def test_special_tokens_give_rows_on_request(of_bert: Any) -> None:
    found = contexts(of_bert, special_tokens=True)
    assert found.rows == len(found.token) == 15
    assert shown(of_bert, found)[2] == "[CLS] DOG RAN [SEP]"


def test_special_tokens_written_in_a_text_are_special(of_gpt2: Any) -> None:
    assert shown(of_gpt2, contexts(of_gpt2, ["cat <|endoftext|> dog"])) == ["CAT <|endoftext|> DOG"]


def test_special_tokens_without_a_name_are_special(gpt2: Path) -> None:
    """As Llama 3's reserved tokens and those of chats."""
    tokenizer = load_tokenizer(gpt2, "gpt2")
    tokenizer.add_tokens([AddedToken("<|turn|>", special=True), AddedToken("wordy", special=False)])
    assert special_ids(tokenizer) == {0, 12}
    assert shown(tokenizer, contexts(tokenizer, ["cat <|turn|> wordy"])) == ["CAT <|turn|> WORDY"]


def test_an_unknown_word_is_a_word(of_bert: Any) -> None:
    assert special_ids(of_bert) == {0, 2, 3, 4}
    assert shown(of_bert, contexts(of_bert, ["the unicorn"])) == ["[cls] THE [UNK] [sep]"]


@pytest.mark.parametrize("packing", ["pack", "pad"])
def test_the_first_rows(packing: str, of_bert: Any) -> None:
    whole = contexts(of_bert, packing=packing)
    for n in (1, 4, 5, 8, 9, 100):
        found = contexts(of_bert, packing=packing, most_rows=n)
        assert found.rows == min(n, 9)
        for name in ("token", "document", "context", "position"):
            assert torch.equal(found.column(name), whole.column(name)[:n])
        assert bool(found.is_row[found.start[-2] :].any())  # no context without rows at the end


def test_no_more_text_is_read_than_rows_need(of_bert: Any) -> None:
    read = []

    def texts() -> Any:
        for i in range(10_000):
            read.append(i)
            yield "the cat"

    assert cut(enumerate(texts()), of_bert, context=8, packing="pad", special_tokens=False, most_rows=100).rows == 100
    assert len(read) < 1000


def _bytes_bpe(text: str) -> Tokenizer:
    """As GPT-2's: a word begins with a space."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(vocab_size=600, show_progress=False))
    return tokenizer


def _llama3_bpe(text: str) -> Tokenizer:
    """As Llama 3's, which joins punctuation and line ends."""
    tokenizer = Tokenizer(models.BPE())
    pattern = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(vocab_size=600, show_progress=False))
    return tokenizer


def _llama2_bpe(text: str) -> Tokenizer:
    """As Llama 2's, which puts a space before every text, also one that begins with a space."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False, special_tokens=["<unk>"], max_token_length=8)
    tokenizer.train_from_iterator(text.split(" "), trainer)
    return tokenizer


def _metaspace_unigram(text: str) -> Tokenizer:
    """As sentencepiece's: a space is put before a text."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=400, show_progress=False, unk_token="<unk>", special_tokens=["<unk>"])
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def _word_pieces(text: str) -> Tokenizer:
    """As BERT's, which drops spaces."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=400, show_progress=False, special_tokens=["[UNK]"])
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


@pytest.mark.parametrize("make", [_bytes_bpe, _llama2_bpe, _llama3_bpe, _metaspace_unigram, _word_pieces])
@pytest.mark.parametrize("packing", ["pack", "pad"])
def test_pieces_give_the_tokens_of_the_whole(
    make: Callable[[str], Tokenizer], packing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [topics.topics[name] for name in ("typesseq", "assert", "formatstrings")]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=make("".join(texts)), eos_token="<end>")
    for i, text in enumerate(texts):
        (tmp_path / f"{i}.txt").write_text(text)
    found = []
    for longest, characters in ((10**6, 10**6), (2000, 8000), (1000, 1)):
        monkeypatch.setattr("sparse_ae.data.activations.corpus.LONGEST", longest)
        monkeypatch.setattr("sparse_ae.data.activations.cutting._CHARACTERS", characters)
        parts = list(pieces(text_files(str(tmp_path)), "text"))
        assert len(parts) > 20 or longest > 10**5
        found.append(cut(parts, tokenizer, context=16, packing=packing, special_tokens=False))  # type: ignore[arg-type]
    expected = tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert found[0].column("token").tolist() == [token for ids in expected for token in ids]
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_empty_text(of_bert: Any) -> None:
    for packing in ("pack", "pad"):
        assert contexts(of_bert, ["", " "], packing=packing).rows == 0


def test_shards_begin_at_contexts_and_tell_rows_by_text_alone(of_bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparse_ae.data.activations.tokens.SHARD_ROWS", 4)
    monkeypatch.setattr("sparse_ae.data.activations.tokens._AT_ONCE", 2)
    found = contexts(of_bert, TEXTS * 3)
    spans = found.shards()
    assert spans == [(0, 1), (1, 3), (3, 4), (4, 5), (5, 7), (7, 8), (8, 9)]
    assert [found.count(span) for span in spans] == [4, 5, 4, 3, 6, 3, 2]
    for name in ("token", "document", "context", "position"):
        assert torch.equal(torch.cat([found.column(name, span) for span in spans]), found.column(name))


def test_batches_are_padded_on_the_right(of_bert: Any) -> None:
    first, second = contexts(of_bert).batches(Span(0, 3), 2, pad=0)
    assert first.token.shape == (2, 6)
    assert first.token[1].tolist()[4:] == [3, 0]
    assert first.mask.tolist() == [[1] * 6, [1] * 5 + [0]]
    assert first.rows.tolist() == [1, 2, 3, 4, 7, 8, 9]
    assert second.token.shape == (1, 4)


def test_saved_and_loaded(of_bert: Any, tmp_path: Path) -> None:
    found = contexts(of_bert)
    found.save(tmp_path / "contexts.safetensors")
    again = Contexts.load(tmp_path / "contexts.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    assert of_bert.decode(again.tokens(2)) == "[CLS] dog ran [SEP]"


def test_too_short_a_context(of_bert: Any) -> None:
    with pytest.raises(ConfigError, match=r"context=2: has no room beside the special tokens \(expected at least 3\)"):
        contexts(of_bert, context=2)


def test_no_token_to_separate_documents(of_bert: Any) -> None:
    of_bert.sep_token, before = None, of_bert.sep_token
    try:
        with pytest.raises(ConfigError, match=r"packing=pack: .*no eos or sep token.* \(expected pad\)$"):
            contexts(of_bert, packing="pack")
    finally:
        of_bert.sep_token = before
