"""Rows of ``data=activations`` in their text: at the borders of contexts and of documents."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sparse_ae.data import Activations
from sparse_ae.data.activations.text import ContextText
from sparse_ae.data.splits import Split
from tests.data.activations.models import DIM, WORDS
from tests.helpers import Cli

SPLITS: tuple[Split, ...] = ("train", "val", "test")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests of this file."""
    return tmp_path_factory.mktemp("root")


def _data(model: Path, text: Path, root: Path, **changes: Any) -> Activations:
    layer = "encoder.layer.0" if "bert" in str(model) else "h.0"
    options = {"model": str(model), "layer": layer, "text": str(text), "context": 16, "batch_size": 16}
    data = Activations(**options | {"root": str(root), "dtype": "float32"} | changes)
    data.prepare_data()
    return data


def _words(corpus: Path) -> list[list[str]]:
    """Words of each document, in the order in which documents are read."""
    return [(corpus / f"{i}.txt").read_text().split() for i in range(len(list(corpus.iterdir())))]


@pytest.mark.parametrize("packing", ["pack", "pad"])
@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_windows_are_what_the_model_saw_of_one_document(
    model: str, packing: str, corpus: Path, root: Path, request: pytest.FixtureRequest
) -> None:
    """For every row: its word is marked, and around it are the words of its document that its context has."""
    data = _data(request.getfixturevalue(model), corpus, root, packing=packing)
    width = 14 if model == "bert" else 16  # without [CLS] and [SEP]
    documents = _words(corpus)
    place, begin = {}, 0
    for number, words in enumerate(documents):  # by hand: each word's context
        begin = 0 if packing == "pad" else begin
        contexts = [(begin + i) // width for i in range(len(words))]
        place[number] = [[i for i in range(len(words)) if contexts[i] == c] for c in sorted(set(contexts))]
        begin += len(words) + 1  # the separator
    seen = set()
    for split in SPLITS:
        text, tokens = ContextText(data, split, 10**6), data.tokens(split)
        for row in range(len(tokens.token)):
            window = text.window(row, 100, 100)
            document = int(tokens.document[row])
            words = [piece.text.strip() for piece in window.pieces]
            own = [part for part in place[document] if [documents[document][i] for i in part] == words]
            assert own
            assert text.names([int(tokens.token[row])]) == [words[window.marked]]
            assert window.pieces[window.marked].rows == (row,)
            shown = [piece.rows[0] for piece in window.pieces]
            assert tokens.document[shown].tolist() == [document] * len(shown)
            assert len(set(tokens.context[shown].tolist())) == 1
            assert tokens.position[shown].diff().tolist() == [1] * (len(shown) - 1)
            assert len(set(text.passage[shown].tolist())) == 1
            seen.add((document, tuple(shown)))
    assert len(seen) == sum(map(len, place.values()))  # every part of every document


def test_a_window_ends_where_its_text_does(bert: Path, corpus: Path, root: Path) -> None:
    text = ContextText(_data(bert, corpus, root), "test", 10**6)
    first = next(row for row in range(20) if text.window(row, 1, 1).marked == 0)
    assert [len(text.window(first, 3, after).pieces) for after in (0, 1, 2)] == [1, 2, 3]
    second = text.window(first + 1, 3, 0)
    assert (len(second.pieces), second.marked) == (2, 1)
    whole = text.window(first, 100, 100).pieces
    last = text.window(whole[-1].rows[0], 2, 5)
    assert (last.pieces, last.marked) == (whole[-3:], 2)
    lengths = text.passage.bincount()
    assert lengths.sum() == len(text.token)
    assert lengths.min() > 0


def test_special_tokens_are_shown_only_if_they_have_rows(bert: Path, corpus: Path, root: Path) -> None:
    data = _data(bert, corpus, root, special_tokens=True, packing="pad")
    text = ContextText(data, "test", 10**6)
    row = int((text.token == data.tokenizer.cls_token_id).nonzero()[0])
    pieces, marked = text.window(row, 5, 2)
    assert pieces[0].text.strip() == "[CLS]"
    assert marked == 0
    assert {piece.text.strip() for piece in pieces[1:]} <= set(WORDS)


def test_tokens_without_rows_are_shown_and_have_none(bert: Path, corpus: Path, root: Path) -> None:
    """Rows of a large norm are left out, and a sample may be the beginning of a split."""
    data = _data(bert, corpus, root, layer="encoder.layer.0.attention.self", max_norm_ratio=1.2)
    text, n = ContextText(data, "train", 30), data.sizes["train"]
    assert data.cache.manifest().left_out > 0  # type: ignore[union-attr]
    assert n > 30
    assert len(text.token) == len(text.passage) == 30
    documents = {" ".join(words) for words in _words(corpus)}
    gaps = 0
    for row in range(30):
        pieces, marked = text.window(row, 100, 100)
        assert pieces[marked].rows == (row,)
        assert any("".join(piece.text for piece in pieces).strip() in document for document in documents)
        assert all(of < 30 for piece in pieces for of in piece.rows)
        gaps += sum(not piece.rows for piece in pieces)
    assert gaps > 0


def test_a_character_of_several_tokens_has_all_their_rows(byte_gpt2: Path, tmp_path: Path) -> None:
    """Each byte is a token and a row; contexts of 8 tokens cut the text, and with it characters."""
    lines = [{"text": "日本 a</script>😀é\u202e\0" * 3}, {"text": "second 日"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = _data(byte_gpt2, tmp_path / "a.jsonl", tmp_path, context=8, val_size=0, test_size=0)
    assert data.input_shape == (DIM,)
    text = ContextText(data, "train", 10**6)
    assert len(text.token) == sum(len(line["text"].encode()) for line in lines)
    windows = [text.window(row, 100, 100) for row in range(len(text.token))]
    passages = {tuple(pieces) for pieces, _ in windows}
    first = [row for pieces in passages for piece in pieces for row in piece.rows]
    assert sorted(first) == list(range(len(text.token)))  # each once
    assert [pieces[marked].rows.count(row) for row, (pieces, marked) in enumerate(windows)] == [1] * len(windows)
    tokens = data.tokens("train")  # in another order than that of the text
    begin = windows[int(((tokens.context == 0) & (tokens.position == 0)).nonzero()[0])]
    assert begin.marked == 0
    assert [piece.text for piece in begin.pieces] == ["日", "本", " ", "a"]
    assert [len(piece.rows) for piece in begin.pieces] == [3, 3, 1, 1]
    shown = "".join(piece.text for pieces in passages for piece in pieces)
    assert "\0" not in shown
    assert "\u202e" not in shown
    assert shown.count("⟨U+0000⟩") == 3


def test_hostile_text_is_shown_literally(byte_gpt2: Path, tmp_path: Path, cli: Cli) -> None:
    """From the model to the page and the figures, whose font lacks some of the characters."""
    hostile = "</script><img src=x onerror=alert(1)> {{ 7 * 7 }} <!-- $x_1$ \0 \u202e שלום 日本 😀"
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": f"{i} {hostile}"}) for i in range(20)))
    outcome = cli(
        "sparse-ae-fit",
        *("data=activations", f"data.model={byte_gpt2}", "data.layer=h.0", "data.text=a.jsonl", "data.context=32"),
        *("data.root=cache", "data.batch_size=16", "coder=pca", "coder.latent_dim=4", "hydra.run.dir=run"),
    )
    assert outcome.code == 0, outcome.err
    assert not outcome.err
    page = (tmp_path / "run" / "units.html").read_text()
    assert page.count("<script") == page.count("</script") == 2
    for sign in ("<img", "<!--", "{{", "\0", "\u202e"):
        assert sign not in page
    (inside,) = re.findall(r'(?s)type="application/json">(.*?)</script>', page)
    pieces = set(json.loads(inside)["pieces"])
    assert pieces >= {"<", "{", "$", "⟨U+0000⟩", "⟨U+202E⟩", "ש", "日", "😀"}
