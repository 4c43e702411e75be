"""Tokens as text, of real tokenisers."""

from typing import Any

import pytest
from tokenizers import models

from sparse_ae.data.activations.pieces import Pieces, visible
from tests.data.activations.tokenizers import END, byte_level, word_piece

TEXT = "It's a naïve café — 日本語のテキスト 😀👍🏽 done. 한국어  two  spaces"
HOSTILE = "</script><img src=x onerror=alert(1)> {{ 7 * 7 }} <!-- $x$ &amp; \\u003c"


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


@pytest.mark.parametrize("size", [257, 330, 600], ids=["bytes", "some merges", "many merges"])
@pytest.mark.parametrize("text", [TEXT, f" {TEXT}", HOSTILE])
def test_pieces_of_bytes_join_to_the_text(text: str, size: int) -> None:
    tokenizer = byte_level([TEXT] * 2, size)
    ids = _ids(tokenizer, text)
    parts = Pieces(tokenizer).parts(ids)
    assert "".join(part.text for part in parts) == text
    assert sum(part.tokens for part in parts) == len(ids)
    if size == 257:  # a token is a byte, and a piece a character
        assert [part.text for part in parts] == list(text)
        assert [part.tokens for part in parts] == [len(character.encode()) for character in text]


def test_tokens_that_overlap_characters_share_a_piece() -> None:
    """The last byte of one character and the first of the next are a token."""
    tokenizer = byte_level()
    vocabulary = tokenizer.get_vocab()
    tokenizer.backend_tokenizer.model = models.BPE(vocabulary | {"¥æ": len(vocabulary)}, [("¥", "æ")])
    parts = Pieces(tokenizer).parts(_ids(tokenizer, "x日本y本"))
    assert parts == [("x", 1), ("日本", 5), ("y", 1), ("本", 3)]


def test_bytes_of_the_replacement_character_are_shown_too() -> None:
    tokenizer = byte_level()
    parts = Pieces(tokenizer).parts(_ids(tokenizer, "\ufffd日"))
    assert [part.text for part in parts] == ["⟨EF⟩", "⟨BF⟩", "⟨BD⟩", "日"]


def test_a_character_that_a_border_cuts_is_shown_as_bytes() -> None:
    tokenizer = byte_level()
    ids = _ids(tokenizer, "日a😀b")
    parts = Pieces(tokenizer).parts(ids[1:6])
    assert [part.text for part in parts] == ["⟨97⟩", "⟨A5⟩", "a", "⟨F0⟩", "⟨9F⟩"]
    assert {part.tokens for part in parts} == {1}
    inside = Pieces(tokenizer).parts([*ids[1:3], *_ids(tokenizer, "日本日本日本")])
    assert [part.text for part in inside] == ["⟨97⟩", "⟨A5⟩", *"日本日本日本"]


def test_names_of_bytes() -> None:
    tokenizer = byte_level(["the the theory"] * 3, 262)
    pieces = Pieces(tokenizer)
    assert pieces.names(_ids(tokenizer, "the the\n日")) == ["the", "␣the", "↵", "⟨E6⟩", "⟨97⟩", "⟨A5⟩"]
    assert pieces.names([tokenizer.eos_token_id]) == [END]
    assert pieces.names([]) == []


def test_pieces_of_words() -> None:
    tokenizer = word_piece("the", "em", "##bed", "##ding", "a", ".", ",", "日", "</", "script", ">", "<")
    pieces = Pieces(tokenizer)
    ids = _ids(tokenizer, "the embedding, a the. 日")
    assert "".join(part.text for part in pieces.parts(ids)) == " the embedding, a the. 日"
    assert pieces.names(ids) == ["the", "em", "##bed", "##ding", ",", "a", "the", ".", "日"]
    assert pieces.names(_ids(tokenizer, "zebra")) == ["[UNK]"]
    assert [part.text for part in pieces.parts(ids[2:4])] == ["bed", "ding"]


def test_words_of_a_tokeniser_that_knows_no_a() -> None:
    tokenizer = word_piece("the", "##ory")
    assert [part.text for part in Pieces(tokenizer).parts(_ids(tokenizer, "theory the"))] == [" the", "ory", " the"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\nb", "a⟨U+000D⟩↵b"),
        ("\x00\x1b[31m", "⟨U+0000⟩⟨U+001B⟩[31m"),
        ("\u200fabc\u202e", "⟨U+200F⟩abc⟨U+202E⟩"),
        ("\u2028\u2029\xa0", "⟨U+2028⟩⟨U+2029⟩⟨U+00A0⟩"),
        ("\ufeff\U000e0041", "⟨U+FEFF⟩⟨U+E0041⟩"),
        (HOSTILE, HOSTILE),
        ("שלום العربية", "שלום العربية"),
    ],
)
def test_what_is_invisible_has_a_sign(text: str, shown: str) -> None:
    assert visible(text) == shown
    tokenizer = byte_level([text], 300)
    assert "".join(part.text for part in Pieces(tokenizer).parts(_ids(tokenizer, text))) == shown
