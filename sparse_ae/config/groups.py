"""Config groups as files: ``conf/<group>/<option>.yaml``."""

import functools
from pathlib import Path

import yaml

from sparse_ae.config.build import TARGET


def conf_dir() -> Path:
    """``conf/`` inside an installed package, else beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


@functools.cache
def targets(group: str) -> dict[str, str]:
    """Dotted paths of the classes that the options of ``group`` build, by option.

    An option that only changes another's values is left out.

    >>> targets("sparsity")["topk"]
    'sparse_ae.sparsity.TopK'
    """
    specs = {file.stem: yaml.safe_load(file.read_text()) for file in sorted((conf_dir() / group).glob("*.yaml"))}
    return {option: spec[TARGET] for option, spec in specs.items() if TARGET in spec}
