"""Activations of a language model on text of the user's own, as rows."""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, PositiveInt
from rich.filesize import decimal
from torch import Tensor

from sparse_ae.config.checked import checked, with_options_of
from sparse_ae.config.errors import ConfigError, UserError
from sparse_ae.data.activations.cache import Cache, Manifest
from sparse_ae.data.activations.corpus import pieces, text_files
from sparse_ae.data.activations.cutting import Packing, cut
from sparse_ae.data.activations.files import FILES, identity, model_folder
from sparse_ae.data.activations.harvest import Harvest, ValueType
from sparse_ae.data.activations.head import HeadedModel
from sparse_ae.data.activations.language_model import LanguageModel
from sparse_ae.data.activations.predictions import Language
from sparse_ae.data.activations.text import ContextText
from sparse_ae.data.activations.tokens import Contexts, Tokens
from sparse_ae.data.cached import Cached
from sparse_ae.data.files import data_root
from sparse_ae.data.module import DataModule, Samples
from sparse_ae.data.progress import Progress
from sparse_ae.data.rows import Subset
from sparse_ae.data.scale import Normalization
from sparse_ae.data.splits import Size, Split

_TEXT = ".txt or .jsonl files, a folder of them, or a glob pattern"
_LARGEST_DOCUMENT = 0.1
"""Share of the rows that a document may have for documents to stay whole."""


@with_options_of(DataModule)
class Activations(Cached[Manifest]):
    """Activations of one layer of a language model, harvested once into ``root``.

    - ``model``: a folder, or a name in Hugging Face's local cache; ``download`` fetches it if it is not there.
    - ``layer``: path of a module, as ``named_modules`` of the model without its head has it. Its output, or the first
      of several, is a row for each token, ``(contexts, tokens, D)``. If it runs several times, the first one counts.
    - ``layers``: further layers harvested in the same pass, for a sweep over ``layer``.
    - ``text``: a .txt file, which is a document; a .jsonl file, of which each line has one under the key ``field``; a
      folder of such files, or a glob pattern.
    - ``context``: largest number of tokens that the model sees at once.
    - ``packing``: ``pack``, documents follow each other in a context; ``pad``, each begins a context of its own.
    - ``special_tokens``: also keep rows of special tokens. Padding never gives rows.
    - ``max_norm_ratio``: leave out rows with a larger norm than this times the median, such as attention sinks.
    - ``n``: largest number of rows; the text is read from its beginning until there are as many. A document of more
      than 2^18 characters is tokenised in pieces that end before a space between letters.
    - ``dtype``: type of the values on disk.
    - ``harvest_batch``: number of contexts that the model is run on at a time.
    - ``content``: digest of model and text, by which runs on others are told apart; only the command line sets it.
      With it, rows that are in ``root`` need neither the model nor the text.

    ``test_size`` and ``val_size`` rows are drawn in whole documents; in whole contexts if a document has more than a
    tenth of the rows. Further options are those of ``DataModule``. Raises ``ConfigError`` for a model, a layer or a
    text that cannot be used.
    """

    groups_option = "text"
    is_of_text = True

    @checked
    def __init__(
        self,
        *,
        root: str | None = None,
        model: str = "???",
        layer: str = "???",
        layers: Sequence[str] = (),
        text: str = "???",
        field: str = "text",
        context: Annotated[int, Field(ge=2)] = 256,
        packing: Packing = "pack",
        special_tokens: bool = False,
        max_norm_ratio: Annotated[float, Field(gt=1)] | None = 10.0,
        n: PositiveInt | None = None,
        dtype: ValueType = "float16",
        harvest_batch: PositiveInt = 32,
        download: bool = False,
        content: str | None = None,
        test_size: Size = 0.1,
        val_size: Size = 0.1,
        normalize: Normalization = "rms",
        **options: Any,
    ) -> None:
        expected = {"model": "a folder, or a name in the local cache", "layer": "a module of the model", "text": _TEXT}
        for option, value in (("model", model), ("layer", layer), ("text", text)):
            if value == "???":
                raise ConfigError(option, reason="is required", expected=expected[option])
        self.model, self.layer, self.layers, self.text, self.field = model, layer, tuple(layers), text, field
        self.context, self.packing, self.special_tokens = context, packing, special_tokens
        self.max_norm_ratio, self.n, self.dtype = max_norm_ratio, n, dtype
        self.harvest_batch, self.download, self.content = harvest_batch, download, content
        self.test_size = test_size
        self._recipe = {
            "content": self._identity() if content is None else content,
            "context": context,
            "packing": packing,
            "special_tokens": special_tokens,
            "max_norm_ratio": max_norm_ratio,
            "n": n,
            "dtype": dtype,
        }
        self.cache = self._cache(layer, data_root(root))
        self._manifest = self.cache.manifest() if self.cache.is_whole else None
        self.input_shape = (self._harvest.model.width(layer) if self._manifest is None else self._manifest.dim,)
        self._draw_groups()
        super().__init__(root=root, val_size=val_size, normalize=normalize, **options)

    def count(self, name: Split) -> int | None:
        if name != "train":
            return None
        return self._harvest.contexts.rows if self._manifest is None else self._manifest.rows

    def source(self, name: Split) -> Samples:
        return Samples(self.cache.rows, None)

    @property
    def folder(self) -> Path:
        return self.cache.folder

    def compute(self) -> Manifest:
        """Harvest, unless that is done. Raises as ``Harvest.fill`` does."""
        layers = dict.fromkeys((self.layer, *self.layers))
        self._harvest.fill({layer: self._cache(layer, self.root) for layer in layers}, self._device)
        manifest = self.cache.manifest()
        assert manifest is not None
        return manifest

    def recount(self) -> None:
        self.__dict__.pop("_harvest", None)  # the model takes memory
        self._draw_groups()
        super().recount()

    @property
    def row_bytes(self) -> int:
        return self.input_dim * getattr(torch, self.dtype).itemsize  # type: ignore[no-any-return]

    def describe(self) -> str:
        n = self._file_size
        kind = f"{n:,} x {self.input_dim} {self.dtype}, {decimal(n * self.row_bytes)}"
        sizes = ", ".join(f"{n:,} {name}" for name, n in self.sizes.items())
        line = f"data: {self.layer} of {self.model} on {self.text} ({kind}) in {self.cache.folder}; {sizes}"
        if self._manifest is None or not self._manifest.left_out:
            return line
        left_out, median = self._manifest.left_out, self._manifest.median_norm
        return f"{line}; {left_out:,} rows left out, of norm above {self.max_norm_ratio:g} x the median {median:.3g}"

    @property
    def doubts(self) -> list[str]:
        if self._keeps_documents or not (self.sizes["val"] or self.sizes["test"]):
            return []
        reason = f"a document has more than {_LARGEST_DOCUMENT:.0%} of the rows"
        return [f"data.text={self.text}: {reason}: splits are drawn in whole contexts, and may share documents"]

    # Text, for what shows it.

    def examples(self, name: Split, n: int) -> ContextText:
        return ContextText(self, name, n)

    def tokens(self, name: Split) -> Tokens:
        """Place in the text of each row of a split, in stored order. Call ``prepare_data`` before."""
        index = getattr(self._parts, name)
        return Tokens(*(self.cache.column(column)[index] for column in Tokens._fields))

    @property
    def contexts(self) -> Contexts:
        """Contexts that the model has seen, with the tokens that give no rows. Call ``prepare_data`` before."""
        return self.cache.contexts

    def language(self, name: Split) -> Language:
        """Text of a split, and the model that predicts it. Call ``prepare_data`` before."""
        index = getattr(self._parts, name)
        assert self.groups is not None

        def load() -> HeadedModel:
            try:
                return HeadedModel(model_folder(self.model, download=self.download), self.model)
            except ConfigError as error:
                raise error.under("data") from error

        return Language(
            load,
            self.layer,
            self.contexts,
            self.tokens(name),
            self.groups[index],
            Subset(self.cache.rows, index),
            lambda: self.moments.mean,
        )

    @property
    def tokenizer(self) -> Any:
        """Tokeniser of the model, to decode tokens. Call ``prepare_data`` before."""
        return self.cache.tokenizer

    @cached_property
    def _harvest(self) -> Harvest:
        """The model and the tokenised text."""
        model = LanguageModel(model_folder(self.model, download=self.download), self.model)
        if self.context > model.longest_context:
            expected = f"2 to {model.longest_context}"
            raise ConfigError("context", self.context, f"longer than {self.model} can read", expected)
        for layer in self.layers:
            model.width(layer, option="layers")
        files = text_files(self.text)
        with Progress("tokenising bytes of text", sum(file.stat().st_size for file in files)) as read:
            contexts = cut(
                pieces(files, self.field, read),
                model.tokenizer,
                context=self.context,
                packing=self.packing,
                special_tokens=self.special_tokens,
                most_rows=self.n,
            )
        if not contexts.rows:
            raise ConfigError("text", self.text, "the files have no text", _TEXT)
        model.check_tokens(contexts.token)
        if self._identity() != self._recipe["content"]:
            raise UserError("data", reason="has changed while it was read; repeat the command")
        return Harvest(model, contexts, self.dtype, self.max_norm_ratio, self.harvest_batch)

    def recipe(self, layer: str) -> dict[str, Any]:
        """All that the rows of a layer depend on."""
        return {**self._recipe, "layer": layer}

    def _identity(self) -> str:
        return identity({option: getattr(self, option) for option in FILES})

    def _cache(self, layer: str, root: Path) -> Cache:
        recipe = self.recipe(layer)
        return Cache(root / f"activations-{_digest(recipe)}", recipe)

    def _draw_groups(self) -> None:
        """Let documents stay whole, or contexts if a document is too large for that."""
        document = self._column("document")
        self._keeps_documents = int(document.bincount().max()) <= _LARGEST_DOCUMENT * len(document)
        self.groups = document if self._keeps_documents else self._column("context")

    def _column(self, name: str) -> Tensor:
        return self._harvest.contexts.column(name) if self._manifest is None else self.cache.column(name)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
