"""Provenance of a run, for its ``status.json``: versions and commit."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

_PACKAGES = ("sparse-ae", "torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in _PACKAGES}}


def git_commit() -> str | None:
    """Commit of this code, ``-dirty`` if tracked files differ from it; None for an installed copy."""
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)
        return git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None
