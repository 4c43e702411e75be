"""Export of a run's coder as weights plus a description: ``model.safetensors`` and ``model.json``, no pickle.

Neither Lightning nor Hydra is needed to read it, and a file someone was sent cannot run code: the description may name
only networks, sparsity methods and coders of this package or of modules that the caller has imported already.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import safetensors
from safetensors.torch import load_file, save
from torch import Tensor

from sparse_ae.atomic import write_atomically
from sparse_ae.coders import CoderModule, DictionaryCoder
from sparse_ae.config.build import build
from sparse_ae.config.errors import UserError
from sparse_ae.data.scale import Scale
from sparse_ae.models import Network, SparseAutoencoder, build_autoencoder
from sparse_ae.run.checkpoint import read_checkpoint
from sparse_ae.run.directory import Run
from sparse_ae.run.errors import CheckpointError, RunError
from sparse_ae.run.trust import check_trusted
from sparse_ae.sparsity import Sparsity

Weights = Literal["final", "best"]
C = TypeVar("C", bound=CoderModule)

_FORMAT = 3
_SCALE = "scale."
"""Prefix of the tensors of the scale."""


def save_model(run: Run, model: SparseAutoencoder, *, network: Mapping[str, Any], sparsity: Mapping[str, Any]) -> None:
    """Write the model and the specs it was built from into the run."""
    _save(run, model, {"network": dict(network), "sparsity": dict(sparsity)})


def save_coder(run: Run, coder: DictionaryCoder) -> None:
    """Write a classical coder into the run."""
    spec = {"_target_": f"{type(coder).__module__}.{type(coder).__name__}", **coder.arguments}
    _save(run, coder, {"coder": spec})


def load(run: Run | Path | str, weights: Weights = "final") -> SparseAutoencoder | DictionaryCoder:
    """The coder of a run, in evaluation mode, on the CPU: a trained autoencoder, or a classical coder.

    ``weights``: those at the end of training, or the checkpoint with the best monitored metric. Raises ``RunError`` if
    the run, its model or its weights are missing or damaged, or if its description is not trusted.
    """
    if not isinstance(run, Run):
        run = Run.open(run)
    spec = run.read_model_spec()
    if spec.get("format") != _FORMAT:
        raise RunError(str(run.model_spec), reason=f"format {spec.get('format')} is not known", expected=str(_FORMAT))
    tensors = _read(run.weights, load_file)
    scale = Scale(**{name.removeprefix(_SCALE): tensors.pop(name) for name in [*tensors] if name.startswith(_SCALE)})
    if "coder" in spec:
        if weights != "final":
            raise RunError("weights", weights, f"{run.path} is a classical coder's", "final")
        check_trusted(spec["coder"], DictionaryCoder, str(run.model_spec))
        if tensors.keys() != {"atoms", "mean"}:
            raise RunError(str(run.weights), reason=f"holds {', '.join(tensors)}", expected="atoms, mean")
        try:
            coder: DictionaryCoder = build(spec["coder"], "coder", dictionary=tensors["atoms"], mean=tensors["mean"])
        except UserError as error:
            raise RunError(str(run.path), reason=f"its model cannot be read ({error})") from error
        return _finished(coder, scale, spec, run)
    for key, base in (("network", Network), ("sparsity", Sparsity)):
        check_trusted(spec.get(key), base, str(run.model_spec))
    model = build_autoencoder(spec["network"], spec["sparsity"], input_dim=int(spec.get("input_dim", 0)))
    path, state = run.weights, tensors
    if weights == "best":
        path = run.best_checkpoint
        state = _read(path, _read_best)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise RunError(str(path), reason=f"cannot be read ({error})") from error
    return _finished(model, scale, spec, run)


def _finished(coder: C, scale: Scale, spec: Mapping[str, Any], run: Run) -> C:
    """The coder in evaluation mode, with the scale and the shape of its samples."""
    shape = spec.get("input_shape")
    sizes = [size for size in shape if type(size) is int and size > 0] if isinstance(shape, list) else []
    if not sizes or sizes != shape or math.prod(sizes) != coder.input_dim:
        reason = f"is damaged (its input_shape is {shape}, and the model takes {coder.input_dim} values)"
        raise RunError(str(run.model_spec), reason=reason)
    coder.scale, coder.input_shape, coder.takes_integers = scale, tuple(sizes), spec.get("takes_integers") is True
    return coder.eval()


def _save(run: Run, coder: CoderModule, specs: Mapping[str, Any]) -> None:
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in coder.state_dict().items()}
    write_atomically(run.weights, save(state))
    sizes = {"input_shape": list(coder.input_shape), "input_dim": coder.input_dim, "latent_dim": coder.latent_dim}
    run.write_model_spec({"format": _FORMAT, **sizes, "takes_integers": coder.takes_integers, **specs})


def _read(path: Path, reader: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    try:
        return reader(path)
    except (OSError, KeyError, CheckpointError, safetensors.SafetensorError) as error:
        raise RunError(str(path), reason=f"cannot be read ({str(error).splitlines()[0]})") from error


def _read_best(path: Path) -> dict[str, Tensor]:
    state = read_checkpoint(path)["state_dict"]
    prefix = "objective.model."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
