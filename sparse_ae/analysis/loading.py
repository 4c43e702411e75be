"""Load a finished run (model, data, activity threshold) for evaluation or analysis."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from sparse_ae.analysis import Sample
from sparse_ae.analysis.codes import MOST_CODES
from sparse_ae.atomic import make_writable
from sparse_ae.coders import CoderModule, DictionaryCoder
from sparse_ae.config.build import build
from sparse_ae.config.errors import ConfigError
from sparse_ae.data import Activations, DataModule, Split, Synthetic, usable_device
from sparse_ae.data.content import FILES, identity
from sparse_ae.functional import block_rows
from sparse_ae.models import SparseAutoencoder
from sparse_ae.run.directory import Run
from sparse_ae.run.export import Weights, load
from sparse_ae.run.trust import check_trusted

_MOST_VALUES = 2**28
"""Number of values of a split, 1 GB, of which analyses take no more than the first."""
_TRIED = 1000
"""Largest number of rows on which the codes != 0 are counted."""


class LoadedRun(NamedTuple):
    """A finished run with its coder and its data in memory."""

    run: Run
    coder: SparseAutoencoder | DictionaryCoder
    data: DataModule
    threshold: float
    """A unit is active where its |code| exceeds this."""
    variant: str
    """Empty for the run's own final weights and threshold; else a short name of the difference: ``best-0.5``."""


def named_run(config: DictConfig) -> Run:
    """Open the run that ``run=DIR`` names. Raises ``ConfigError`` without one, ``RunError`` for a folder of no run."""
    if OmegaConf.is_missing(config, "run") or not str(config.run):
        raise ConfigError("run", reason="is required", expected="a run's folder, such as outputs/default/<run>")
    return Run.open(str(config.run))


def read_run(
    run: Run, *, weights: Weights, threshold: float | None, device: str, other_data: Mapping[str, Any] | None = None
) -> LoadedRun:
    """Load the coder and the data module of ``run``; ``other_data`` is a data spec that replaces the run's own.

    Nothing in the run's files can run code: its data spec may name a data module only, and its transforms, which are
    of training inputs, are left out. Raises ``ConfigError`` if model and data differ in D, or if the files of the
    data are not what they were when it was trained.
    """
    torch.set_flush_denormal(True)  # as in training, where denormal codes are flushed to 0
    config = run.config
    where = usable_device(device)
    if other_data is None:
        spec = {**config["data"], "transforms": []}
        check_trusted(spec, DataModule, f"{run.path}/.hydra/config.yaml")
    else:
        spec = {**other_data, "batch_size": 1}  # only training has batches of that size, which few rows may not fill
    data = build(spec | {"device": str(where)}, "data")
    _check_content(data, spec)
    make_writable(run.path)
    coder = load(run, weights).to(where)
    if data.input_dim != (dim := coder.input_dim):
        raise ConfigError("data", reason=f"has {data.input_dim} values per sample, but the model takes {dim}")
    data.prepare_data()
    data.scale = coder.scale
    differs = [*(["best"] if weights == "best" else []), *([] if threshold is None else [f"{threshold:g}"])]
    own = config["active_threshold"] if threshold is None else threshold
    return LoadedRun(run, coder, data, own, "-".join(differs))


def _check_content(data: DataModule, spec: Mapping[str, Any]) -> None:
    """Raise ``ConfigError`` unless the files of ``spec`` have the contents by which it identifies them.

    Other rows would be split, scaled and compared as if they were those of training.
    """
    known, named = spec.get("content"), [option for option in FILES if spec.get(option) is not None]
    if known is not None and named and identity(spec, pictures=data.is_of_pictures) != known:
        key = f"data.{named[0]}"
        reason = "its contents have changed since the run was trained"
        raise ConfigError(key, spec[named[0]], reason, "those files; sparse-ae-evaluate data=... takes other data")


def test_sample(coder: CoderModule, data: DataModule, device: str, threshold: float) -> Sample:
    """The test split as a ``Sample``, its rows on ``device``: the first of them, if it or its codes are very large."""
    size, room = data.sizes["test"], max(_MOST_VALUES // data.input_dim, 1)
    coded = _codable(coder, data, device)

    def read(split: Split, most: int) -> tuple[Tensor, Tensor | None]:
        rows, label = data.split(split)
        n = min(len(rows), most)
        return data.to_float(rows.read(0, n)), None if label is None else label[:n]

    most = min(room, coded)
    x, label = read("test", most)
    return Sample(
        x.to(device),
        label,
        data.input_shape,
        threshold,
        lambda: read("train", room)[0],
        lambda split: read(split, min(room, 2 * coded)),  # probes store codes once, others by sample and by unit
        _left_out(coder, size, room, coded),
        data.examples("test", len(x)),
        partial(data.language, "test") if isinstance(data, Activations) else None,
        partial(data.truth, "test", len(x)) if isinstance(data, Synthetic) else None,
    )


def _codable(coder: CoderModule, data: DataModule, device: str) -> int:
    """Number of rows whose codes analyses can store, by the number of those != 0 of the first test rows."""
    units, rows = coder.latent_dim, data.split("test").rows
    if max(data.sizes.values()) * units <= MOST_CODES:
        return MOST_CODES // units
    x = data.to_float(rows.read(0, min(len(rows), block_rows(units, _TRIED)))).to(device)
    with torch.inference_mode():
        return int(MOST_CODES / max(float(coder.encode(x).count_nonzero()) / len(x), 1))


def _left_out(coder: CoderModule, size: int, room: int, coded: int) -> str:
    """A line about test rows that are left out, as there is only ``room`` for so many or so many can be ``coded``."""
    if size <= min(room, coded):
        return ""
    kind = "coder" if isinstance(coder, DictionaryCoder) else "model"
    key, what = ("data", "values") if room <= coded else (f"{kind}.latent_dim={coder.latent_dim}", "codes != 0")
    most = _MOST_VALUES if room <= coded else MOST_CODES
    return f"{key}: analyses take the first {min(room, coded):,} of {size:,} test rows, {most:,} {what}"
