"""Text to analyse that is given as words."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparse_ae.analysis import Subject
from sparse_ae.data.examples import Piece, Window
from tests.analysis.subjects import subject_of


class Words:
    """Passages of words; each word is a token and a row, and its id is its place among all words in order."""

    def __init__(self, *passages: str) -> None:
        self.passages = [passage.split(" ") for passage in passages]
        self.words = sorted({word for passage in self.passages for word in passage})
        self.place = [(p, i) for p, passage in enumerate(self.passages) for i in range(len(passage))]

    @property
    def token(self) -> Tensor:
        return torch.tensor([self.words.index(self.passages[p][i]) for p, i in self.place])

    @property
    def passage(self) -> Tensor:
        return torch.tensor([p for p, _ in self.place])

    def names(self, tokens: Sequence[int]) -> list[str]:
        return [self.words[token] for token in tokens]

    def window(self, row: int, before: int, after: int) -> Window:
        p, i = self.place[row]
        first = max(i - before, 0)
        begin = self.place.index((p, 0))
        pieces = [Piece(f" {word}", (begin + j,)) for j, word in enumerate(self.passages[p])]
        return Window(pieces[first : i + after + 1], i - first)


def on_text(text: Words, z: Tensor, threshold: float = 0.1) -> Subject:
    """A subject whose rows are the words of ``text``, with codes ``z (B, N)``."""
    subject = subject_of(z, threshold=threshold)
    return Subject(subject.coder, subject.sample._replace(label=None, shape=(16,), text=text))


def random_words(passages: int = 12, seed: int = 0) -> Words:
    """Passages of 5 to 40 words, of ten different ones."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(5, 41, (passages,), generator=generator).tolist()
    return Words(*(" ".join(f"w{i}" for i in torch.randint(10, (n,), generator=generator).tolist()) for n in lengths))
