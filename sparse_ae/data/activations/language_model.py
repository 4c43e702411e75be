"""Language model without its head: what its layers give."""

import difflib
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparse_ae.config.errors import ConfigError, describe
from sparse_ae.data.activations.loading import load_model, load_tokenizer, padding, vocabulary
from sparse_ae.data.activations.tokens import TokenBatch

_NAMES_SHOWN = 3


class _Stop(Exception):
    """End of a forward pass whose wanted outputs are there."""


class LanguageModel:
    """A transformer without its head, in evaluation mode, and its tokeniser.

    ``folder`` holds them as ``save_pretrained`` writes them; ``name`` is the user's, for messages. Values have the type
    of the checkpoint. Code that comes with a model is never run. Raises ``ConfigError`` for a folder that holds no
    model of text or no tokeniser.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.tokenizer = load_tokenizer(folder, name)
        self.model, missing = load_model(folder, name, "AutoModel")
        if self.model.main_input_name != "input_ids":
            raise ConfigError("model", name, f"{type(self.model).__name__} reads no text", "a language model")
        self._random = {key.rpartition(".")[0] for key in missing}

    @property
    def longest_context(self) -> int:
        """Largest number of tokens that model and tokeniser declare."""
        of_model: int | None = getattr(self.model.config, "max_position_embeddings", None)
        of_tokeniser = int(self.tokenizer.model_max_length)
        if of_model is None:
            return of_tokeniser
        for module in self.model.modules():  # RoBERTa's positions begin after that of padding
            if (
                isinstance(module, nn.Embedding)
                and module.num_embeddings == of_model
                and module.padding_idx is not None
            ):
                of_model -= module.padding_idx + 1
        return min(of_model, of_tokeniser)

    @property
    def padding(self) -> int:
        """Token id at padded positions."""
        return padding(self.tokenizer, self.model)

    def check_tokens(self, token: Tensor) -> None:
        """Raise ``ConfigError`` unless the model knows all of the tokens ``(n,)``."""
        known = vocabulary(self.model)
        if int(token.max()) >= known:
            reason = f"its tokeniser gives token {int(token.max())}, and {type(self.model).__name__} knows {known}"
            raise ConfigError("model", self.name, reason, "a model with its own tokeniser")

    def width(self, layer: str, *, option: str = "layer") -> int:
        """Number of values D that ``layer`` gives for a token. ``option`` names it in errors.

        Raises ``ConfigError`` for a layer that the model lacks, and one that does not give (B, T, D) or has weights
        that the checkpoint lacks.
        """
        self._check_name(layer, option)
        self._check_reads_text(layer, option)
        untrained: set[str] = set()
        shape = (2, 3)  # unlike each other
        with ExitStack() as stack:
            for name in self._random:
                note = self._noting(name, untrained)
                stack.callback(self.model.get_submodule(name).register_forward_pre_hook(note).remove)
            ids = torch.zeros(shape, dtype=torch.int64, device=self.model.device)
            try:
                outputs = self._run(ids, torch.ones_like(ids), {layer: lambda output: output})
            except Exception as error:  # of any type, from a model that wants more than text
                reason = f"{type(self.model).__name__} cannot be run on text alone ({describe(error)})"
                raise ConfigError("model", self.name, reason, "a language model") from error
        if layer not in outputs:
            raise ConfigError(option, layer, f"{self.name} does not run it on text", "a layer that it runs")
        tensor = first_tensor(outputs[layer])
        if tensor is None or tensor.ndim != 3 or tensor.shape[:2] != shape:
            reason = f"for {shape[0]} contexts of {shape[1]} tokens it gives {_kind(outputs[layer])}"
            raise ConfigError(option, layer, reason, "a layer that gives (contexts, tokens, values)")
        if untrained:
            names = ", ".join(sorted(untrained)[:_NAMES_SHOWN])
            raise ConfigError("model", self.name, f"its files lack weights that {layer} depends on ({names})")
        return int(tensor.shape[2])

    def move(self, device: torch.device) -> None:
        """Move the weights to ``device``."""
        self.model.to(device)

    def activations(self, batch: TokenBatch, layers: Collection[str]) -> dict[str, Tensor]:
        """Outputs ``(n_rows, D)`` of ``layers`` for the rows of a batch. The model stops after the last of them."""
        token, mask, rows = (tensor.to(self.model.device) for tensor in batch)

        def take(output: Any) -> Tensor:
            tensor = first_tensor(output)
            assert tensor is not None
            return tensor.flatten(0, 1).index_select(0, rows)

        return self._run(token, mask, dict.fromkeys(layers, take))

    def _run(self, token: Tensor, mask: Tensor, takes: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
        """Run the model, apply to the first output of each layer its function, and stop when all are there."""
        found: dict[str, Any] = {}

        def keep(layer: str) -> Callable[..., None]:
            def hook(module: nn.Module, arguments: object, output: Any) -> None:
                if layer not in found:
                    found[layer] = takes[layer](output)
                    if len(found) == len(takes):
                        raise _Stop

            return hook

        with ExitStack() as stack, torch.inference_mode():
            for layer in takes:
                stack.callback(self.model.get_submodule(layer).register_forward_hook(keep(layer)).remove)
            with suppress(_Stop):
                self.model(input_ids=token, attention_mask=mask)
        return found

    def _check_name(self, layer: str, option: str) -> None:
        names = [name for name, _ in self.model.named_modules() if name]
        if layer not in names:
            wanted = layer.removeprefix(f"{self.model.base_model_prefix}.")  # as in the model with a head
            near = [wanted] if wanted in names else difflib.get_close_matches(wanted, names, n=_NAMES_SHOWN, cutoff=0)
            reason = f"{type(self.model).__name__} has no such layer"
            raise ConfigError(option, layer, reason, f"a module such as {', '.join(near)}")

    def _check_reads_text(self, layer: str, option: str) -> None:
        """Raise ``ConfigError`` for a layer of a decoder whose tokens are those of the encoder, moved by one."""
        model = self.model
        if model.config.is_encoder_decoder and model.get_submodule(layer) not in set(model.get_encoder().modules()):
            reason = f"{type(model).__name__} reads the text with its encoder, and with its decoder moved by a token"
            raise ConfigError(option, layer, reason, "a layer of the encoder")

    @staticmethod
    def _noting(name: str, noted: set[str]) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: object) -> None:
            noted.add(name)

        return hook


def first_tensor(output: Any) -> Tensor | None:
    """A layer's tensor: its output, or the first element of a tuple."""
    first = output[0] if isinstance(output, tuple) and output else output
    return first if isinstance(first, Tensor) else None


def _kind(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, tuple) and output:
        return f"a tuple that begins with {_kind(output[0])}"
    return f"a {type(output).__name__}"
