"""Tokens as text: pieces that join to the text, and names that tell tokens apart."""

import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

_BROKEN = "\N{REPLACEMENT CHARACTER}"
"""Character that tokenisers write for bytes that are no whole character."""
_LONGEST = 8
"""Number of tokens that may share characters: one of 4 bytes has at most 4, and each may begin the next."""
_SIGNS = {"\n": "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}", "\t": "\N{RIGHTWARDS ARROW TO BAR}"}
_SPACE = "\N{OPEN BOX}"
_OWN_SIGNS = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = sorted(set(range(256)) - set(_OWN_SIGNS))
_BYTES = {chr(byte): byte for byte in _OWN_SIGNS} | {chr(256 + i): byte for i, byte in enumerate(_OTHERS)}
"""Alphabet in which byte-level tokenisers write bytes (Radford et al., 2019)."""


class Part(NamedTuple):
    """Text of one token, or of several that share a character."""

    text: str
    tokens: int
    """Number of tokens."""


def visible(text: str) -> str:
    r"""``text`` with a sign for all that is invisible or controls the display, except for the space.

    >>> visible("a\tb\n \0\u202ec")
    'a⇥b↵ ⟨U+0000⟩⟨U+202E⟩c'
    """
    return "".join(map(_sign, text))


def _sign(character: str) -> str:
    category = unicodedata.category(character)
    if character == " " or not (category.startswith("C") or category in ("Zs", "Zl", "Zp")):
        return character
    return _SIGNS.get(character) or f"⟨U+{ord(character):04X}⟩"


class Pieces:
    """Texts of a tokeniser's tokens.

    A token's text is what it adds between two others. That is how it looks in the middle of a text, for tokenisers that
    write spaces into tokens as well as for those that mark what continues a word. No token is taken for a special one.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._anchor: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
        self._head = self._decode([self._anchor])[0]
        self._tail = self._decode([self._anchor * 2])[0].removeprefix(self._head)
        raw = "".join(tokenizer.convert_ids_to_tokens(self._anchor))
        self._adds_spaces = self._tail == f" {raw}"
        self._known: dict[int, str] = {}

    def parts(self, ids: Sequence[int]) -> list[Part]:
        """Text of consecutive tokens; a character of several tokens stands once, for all of them."""
        texts, found, place = self._texts(ids), [], 0
        while place < len(ids):
            part = self._part(ids, texts, place)
            found.append(part)
            place += part.tokens
        return found

    def names(self, ids: Sequence[int]) -> list[str]:
        """Names of tokens: as the tokeniser writes them if it adds the spaces itself, else the text with its spaces."""
        texts = self._texts(ids)
        raw = self.tokenizer.convert_ids_to_tokens(list(ids))
        return [self._name(*token) for token in zip(texts, raw, strict=True)]

    def _name(self, text: str, raw: str) -> str:
        if _BROKEN in text:
            return _bytes(raw)
        return visible(raw if self._adds_spaces else text).replace(" ", _SPACE)

    def _part(self, ids: Sequence[int], texts: Sequence[str], place: int) -> Part:
        """The fewest tokens from ``place`` on that are whole characters; one token if there are none."""
        if _BROKEN not in texts[place]:
            return Part(visible(texts[place]), 1)
        for end in range(place + 1, min(place + _LONGEST, len(ids))):
            if _BROKEN not in texts[end]:
                break
            text = self._between([ids[place : end + 1]])[0]
            if _BROKEN not in text:
                return Part(visible(text), end + 1 - place)
        return Part(_bytes(self.tokenizer.convert_ids_to_tokens([ids[place]])[0]), 1)

    def _texts(self, ids: Sequence[int]) -> list[str]:
        new = sorted(set(ids) - self._known.keys())
        self._known |= zip(new, self._between([[token] for token in new]), strict=True)
        return [self._known[token] for token in ids]

    def _between(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """Text that each sequence adds between two anchors."""
        decoded = self._decode([[*self._anchor, *ids, *self._anchor] for ids in sequences])
        return [text.removeprefix(self._head).removesuffix(self._tail) for text in decoded]

    def _decode(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        texts: list[str] = self.tokenizer.batch_decode(sequences, clean_up_tokenization_spaces=False)
        return texts


def _bytes(raw: str) -> str:
    """Bytes of a token that is no whole character: ``⟨E2 80⟩``."""
    if all(sign in _BYTES for sign in raw):
        return f"⟨{bytes(_BYTES[sign] for sign in raw).hex(' ').upper()}⟩"
    return visible(raw)
