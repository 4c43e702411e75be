"""Checkpoint files: whole or absent, sealed with a digest, and unable to run code when read.

A checkpoint is the zip archive that ``torch.save`` writes, with a digest of everything before it as the archive's
comment: still one ordinary file, which ``torch.load`` reads, but a flipped bit (which ``torch.load`` does not notice),
a lost tail or a foreign file is told from an intact one before anything in it is unpickled.
"""

import hashlib
import io
import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from sparse_ae.atomic import write_atomically
from sparse_ae.run.errors import CheckpointError

_MARK = b"sparse_ae blake2b "
_HEX_DIGITS = 64


def write_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Save atomically: after a crash, or on a full disk, ``path`` is what it was before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(_of_its_own(checkpoint), buffer)
    content = buffer.getbuffer()
    # A zip archive ends with the length of its comment, two bytes, and the comment.
    seal = _MARK + _digest(content[:-2])
    write_atomically(path, content[:-2], len(seal).to_bytes(2, "little"), seal)


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The checkpoint as plain containers and tensors. Raises ``CheckpointError`` unless it is intact and ours."""
    if not path.is_file():
        raise CheckpointError(str(path), reason="no such checkpoint")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(str(path), reason=f"cannot be read as a checkpoint ({error.strerror})") from error
    body, seal = content[: -2 - len(_MARK) - _HEX_DIGITS], content[-len(_MARK) - _HEX_DIGITS :]
    if not seal.startswith(_MARK):
        raise CheckpointError(str(path), reason="not a whole checkpoint of sparse_ae; it does not end with a digest")
    if seal[len(_MARK) :] != _digest(body):
        raise CheckpointError(str(path), reason="is damaged; its digest does not match")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about foreign pickles, which are refused below
            checkpoint = torch.load(io.BytesIO(content), map_location=map_location, weights_only=True)
    except (RuntimeError, EOFError, UnpicklingError) as error:
        reason = f"cannot be read as a checkpoint ({str(error).splitlines()[0]})"
        raise CheckpointError(str(path), reason=reason) from error
    if not isinstance(checkpoint, dict) or "logged" not in checkpoint:
        raise CheckpointError(str(path), reason="not a training checkpoint of sparse_ae")
    return checkpoint


def _of_its_own(value: Any) -> Any:
    """``value`` with copies of the tensors that are parts of larger ones, which would be saved whole."""
    if isinstance(value, torch.Tensor):
        return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value
    if isinstance(value, dict):
        return type(value)((key, _of_its_own(own)) for key, own in value.items())
    if type(value) in (list, tuple):
        return type(value)(map(_of_its_own, value))
    return value


def _digest(content: bytes | memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=_HEX_DIGITS // 2).hexdigest().encode()
