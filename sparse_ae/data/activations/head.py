"""Language model with its head: predictions of tokens, with the activations of a layer replaced in between."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from sparse_ae.config.errors import ConfigError
from sparse_ae.data.activations.language_model import first_tensor
from sparse_ae.data.activations.loading import load_config, load_model, load_tokenizer, padding, vocabulary

Kind = Literal["causal", "masked"]
"""Tokens that a model predicts: the next one, or those that are masked."""
Replace = Callable[[Tensor], Tensor]
"""Maps activations, float32 ``(n, D)``, to what stands in their place."""

_NAMES_SHOWN = 3


class Batch(NamedTuple):
    """Contexts side by side, padded on the right. Places are those in the flattened batch, ascending."""

    token: Tensor
    """Token ids, int64 ``(B, T)``."""
    mask: Tensor
    """1 for tokens, 0 for padding, int64 ``(B, T)``."""
    replaced: Tensor
    """Places of the activations that are replaced, ``(n_replaced,)``."""
    scored: Tensor
    """Places at which predictions are made, ``(n,)``."""


class HeadedModel:
    """Transformer with a head that predicts tokens, in evaluation mode.

    ``folder`` holds it as ``save_pretrained`` writes it; ``name`` is the user's, for messages. Raises ``ConfigError``
    for a model that predicts no tokens, or whose files lack weights, which transformers would draw at random, and for a
    tokeniser without the token that is to be predicted.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.tokenizer = load_tokenizer(folder, name)
        self.kind = _kind(folder, name)
        if self.kind == "masked" and self.tokenizer.mask_token_id is None:
            raise ConfigError("model", name, "its tokeniser has no mask token", "one with [MASK] or <mask>")
        auto = {"causal": "AutoModelForCausalLM", "masked": "AutoModelForMaskedLM"}[self.kind]
        self.model, missing = load_model(folder, name, auto)
        if missing:
            names = ", ".join(sorted(missing)[:_NAMES_SHOWN])
            reason = f"its files lack weights of {type(self.model).__name__}, which predicts tokens ({names})"
            raise ConfigError("model", name, reason, "a model with its language-model head")

    @property
    def padding(self) -> int:
        """Token id at padded positions."""
        return padding(self.tokenizer, self.model)

    @property
    def mask_token(self) -> int:
        """Token id that stands for a masked token."""
        return int(self.tokenizer.mask_token_id)

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the model knows."""
        return vocabulary(self.model)

    def move(self, device: torch.device) -> None:
        """Move the weights to ``device``."""
        self.model.to(device)

    def activations(self, batch: Batch, layer: str) -> Tensor:
        """Activations ``(n_replaced, D)`` of ``layer`` that would be replaced, float32."""
        found: list[Tensor] = []

        def keep(rows: Tensor) -> Tensor:
            found.append(rows)
            return rows

        self.logits(batch, layer, keep)
        return found[0]

    def logits(self, batch: Batch, layer: str, replace: Replace | None = None) -> Tensor:
        """Logits ``(n, vocabulary)`` at the scored places, in the model's own type.

        ``replace`` maps the output of ``layer``, at its first call, at the replaced places; other places keep theirs.
        """
        token, mask, replaced, scored = (tensor.to(self.model.device) for tensor in batch)
        with ExitStack() as stack, torch.inference_mode():
            if replace is not None:
                hook = _replacing(replaced, replace)
                stack.callback(self._layer(layer).register_forward_hook(hook).remove)
            logits: Tensor = self.model(input_ids=token, attention_mask=mask).logits
            return logits.flatten(0, 1).index_select(0, scored)

    def _layer(self, layer: str) -> nn.Module:
        """The module that has this path in the model without its head."""
        body = self.model.base_model
        if layer not in dict(body.named_modules()):
            raise ConfigError("data.layer", layer, f"{type(self.model).__name__} has no such layer")
        return body.get_submodule(layer)  # type: ignore[no-any-return]


def _replacing(places: Tensor, replace: Replace) -> Callable[..., Any]:
    """Forward hook that replaces rows of a layer's output, or of its first element, once."""
    done = False

    def hook(module: nn.Module, arguments: object, output: Any) -> Any:
        nonlocal done
        if done:  # a layer that is run several times: its first output was harvested
            return None
        done = True
        tensor = first_tensor(output)
        assert tensor is not None
        flat = tensor.flatten(0, 1)
        rows = replace(flat.index_select(0, places).float()).to(flat)
        replaced = flat.index_copy(0, places, rows).view_as(tensor)
        return (replaced, *output[1:]) if isinstance(output, tuple) else replaced

    return hook


def _kind(folder: Path, name: str) -> Kind:
    """Kind of the model in ``folder``: masked if transformers has such a head for it, and it is no decoder."""
    config = load_config(folder, name)
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    if not getattr(config, "is_encoder_decoder", False):
        if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False):
            return "masked"
        if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
            return "causal"
    raise ConfigError("model", name, f"{config.model_type} predicts no tokens", "a causal or a masked language model")
