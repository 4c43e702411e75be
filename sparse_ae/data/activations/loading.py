"""Load what transformers has in a folder: a model, its configuration, its tokeniser. Nothing is fetched or executed."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparse_ae.config.errors import ConfigError
from sparse_ae.data.activations.files import installed


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


def vocabulary(model: Any) -> int:
    """Number of tokens that a model knows."""
    return int(model.get_input_embeddings().weight.shape[0])


def padding(tokenizer: Any, model: Any) -> int:
    """Token id at padded positions, where a tokeniser may have none for that, or one that the model does not know."""
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return int(next(token for token in ids if token is not None and token < vocabulary(model)))


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
