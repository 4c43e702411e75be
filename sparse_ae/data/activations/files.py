"""Files of a language model and of a text, and their digest, which identifies a run. Imports no torch."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparse_ae.config.errors import ConfigError
from sparse_ae.data.activations.corpus import text_files
from sparse_ae.data.content import digest

FILES = ("model", "text", "field", "download")
"""Options of ``data`` that name files of a model and of a text and what is read of them, or fetch them."""

_SETTINGS = ("*.json", "*.txt", "*.model", "*.tiktoken")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
"""Files of the weights, in the order in which transformers looks for them."""


def model_folder(model: str, *, download: bool = False) -> Path:
    """Return the folder of a model: that path, or that of a name in Hugging Face's local cache.

    Only with ``download`` it is fetched if it is not there. Raises ``ConfigError`` if there is no such model.
    """
    place = Path(model).expanduser()
    if place.is_dir():
        return place
    if place.exists():
        raise ConfigError("model", model, "a file", "the folder of a model")
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", model, flags=re.ASCII):
        raise ConfigError("model", model, "no such folder")
    with installed():
        from huggingface_hub import snapshot_download
    try:
        folder = Path(snapshot_download(model, local_files_only=not download, allow_patterns=[*_SETTINGS, _WEIGHTS[0]]))
        if download and not any(folder.glob(_WEIGHTS[0])):
            snapshot_download(model, allow_patterns=[_WEIGHTS[1]])
    except (OSError, ValueError) as error:
        if download:
            reason = f"cannot be fetched ({str(error).strip().splitlines()[0]})"
            raise ConfigError("model", model, reason, "a folder, or a name on the Hugging Face hub") from error
        reason = "neither a folder nor a name in the local cache; data.download=true fetches it"
        raise ConfigError("model", model, reason) from error
    return folder


def model_files(folder: Path, model: str) -> list[Path]:
    """Return the files of a model that its activations depend on. Raises ``ConfigError`` for a folder without one."""
    weights = next((found for pattern in _WEIGHTS if (found := sorted(folder.glob(pattern)))), [])
    if not weights or not (folder / "config.json").is_file():
        raise ConfigError("model", model, "a folder without a model", "config.json and .safetensors files in it")
    return weights + sorted(file for pattern in _SETTINGS for file in folder.glob(pattern))


def identity(options: Mapping[str, Any], tell: Callable[[str], object] | None = None) -> str:
    """Return 16 hexadecimal digits that identify the contents of ``model`` and ``text`` of ``options``.

    It includes ``field`` if there are .jsonl files. Raises ``ConfigError`` if there are no such files.
    """
    model = str(options["model"])
    files = text_files(str(options["text"]))
    own = model_files(model_folder(model, download=bool(options.get("download"))), model)
    kinds = [file.suffix.lower() for file in files]
    field = [str(options["field"])] if ".jsonl" in kinds else []
    parts = [digest(own, tell), digest(files, tell), kinds, *field]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@contextmanager
def installed() -> Iterator[None]:
    """Turn the absence of transformers inside ``with`` into ``ConfigError``."""
    try:
        yield
    except ImportError as error:
        reason = f"needs a package that is missing ({error.name}); pip install 'sparse-ae[activations]'"
        raise ConfigError("data", "activations", reason) from error
