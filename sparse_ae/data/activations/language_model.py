"""Language model in a folder or in the local cache: its files, its tokeniser, and what its layers give."""

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparse_ae.config.errors import ConfigError
from sparse_ae.data.activations.files import installed
from sparse_ae.data.activations.tokens import TokenBatch

_NAMES_SHOWN = 3


class _Stop(Exception):
    """End of a forward pass whose wanted outputs are there."""


class LanguageModel:
    """A transformer without its head, in evaluation mode, and its tokeniser.

    ``folder`` holds them as ``save_pretrained`` writes them; ``name`` is the user's, for messages. Values have the type
    of the checkpoint. Code that comes with a model is never run. Raises ``ConfigError`` for a folder that holds no
    model or no tokeniser.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.tokenizer = load_tokenizer(folder, name)
        self.model, missing = load_model(folder, name, "AutoModel")
        self._random = {key.rpartition(".")[0] for key in missing}

    @property
    def longest_context(self) -> int:
        """Largest number of tokens that model and tokeniser declare."""
        of_model = getattr(self.model.config, "max_position_embeddings", None)
        of_tokeniser = int(self.tokenizer.model_max_length)
        return of_tokeniser if of_model is None else min(of_model, of_tokeniser)

    @property
    def padding(self) -> int:
        """Token id at padded positions."""
        return padding(self.tokenizer)

    def width(self, layer: str, *, option: str = "layer") -> int:
        """Number of values D that ``layer`` gives for a token. ``option`` names it in errors.

        Raises ``ConfigError`` for a layer that the model lacks, and one that does not give (B, T, D) or has weights
        that the checkpoint lacks.
        """
        self._check_name(layer, option)
        untrained: set[str] = set()
        shape = (2, 3)  # unlike each other
        with ExitStack() as stack:
            for name in self._random:
                note = self._noting(name, untrained)
                stack.callback(self.model.get_submodule(name).register_forward_pre_hook(note).remove)
            ids = torch.zeros(shape, dtype=torch.int64, device=self.model.device)
            outputs = self._run(ids, torch.ones_like(ids), {layer: lambda output: output})
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
            try:
                self.model(input_ids=token, attention_mask=mask)
            except _Stop:
                pass
            except (TypeError, ValueError) as error:  # an image model, or a decoder that wants more than text
                kind = type(self.model).__name__
                reason = f"{kind} cannot be run on text alone ({str(error).splitlines()[0]})"
                raise ConfigError("model", self.name, reason, "a language model") from error
        return found

    def _check_name(self, layer: str, option: str) -> None:
        names = [name for name, _ in self.model.named_modules() if name]
        if layer not in names:
            wanted = layer.removeprefix(f"{self.model.base_model_prefix}.")  # as in the model with a head
            near = [wanted] if wanted in names else difflib.get_close_matches(wanted, names, n=_NAMES_SHOWN, cutoff=0)
            reason = f"{type(self.model).__name__} has no such layer"
            raise ConfigError(option, layer, reason, f"a module such as {', '.join(near)}")

    @staticmethod
    def _noting(name: str, noted: set[str]) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: object) -> None:
            noted.add(name)

        return hook


def load_tokenizer(folder: Path, name: str) -> Any:
    """Load the tokeniser in ``folder``. Raises ``ConfigError`` if there is none."""
    if not any(re.fullmatch(_TOKENISER, file.name) for file in folder.iterdir()):  # transformers makes an empty one
        raise ConfigError("model", name, "has no tokeniser", "tokenizer.json beside the model")
    return _load(folder, name, "AutoTokenizer")


def load_config(folder: Path, name: str) -> Any:
    """Load the configuration of the model in ``folder``. Raises ``ConfigError`` for an unknown one."""
    return _load(folder, name, "AutoConfig")


def load_model(folder: Path, name: str, kind: str) -> tuple[Any, set[str]]:
    """Load a model in evaluation mode with transformers' class ``kind``, and the weights that its files lack.

    Raises ``ConfigError`` for a folder without one.
    """
    model, info = _load(folder, name, kind, output_loading_info=True)
    model.eval().requires_grad_(False)
    model.config.use_cache = False
    return model, set(info["missing_keys"])


def padding(tokenizer: Any) -> int:
    """Token id at padded positions, where a tokeniser may have none for that."""
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return int(next(token for token in ids if token is not None))


_TOKENISER = r"tokenizer\.json|vocab\.(txt|json)|.*\.model|.*\.tiktoken|tekken\.json"


def _load(folder: Path, name: str, kind: str, **options: Any) -> Any:
    """Load what transformers' class ``kind`` reads from ``folder``: no code is run, and nothing fetched."""
    with _quiet(), _explained(folder, name):
        import transformers

        return getattr(transformers, kind).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **options
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside ``with``, transformers prints neither bars nor reports about heads that are not needed."""
    with installed():
        from transformers.utils import logging
    level, has_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bar:
            logging.enable_progress_bar()


@contextmanager
def _explained(folder: Path, name: str) -> Iterator[None]:
    """Turn what transformers raises about files into ``ConfigError``."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        has_code = "auto_map" in _read(folder / "config.json")
        reason = "needs Python code of its own, which is not run" if has_code else f"cannot be loaded ({first})"
        raise ConfigError("model", name, reason, "a model that transformers knows") from error


def _read(file: Path) -> str:
    return file.read_text(errors="replace") if file.is_file() else ""


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
