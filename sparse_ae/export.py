"""A trained model as weights plus a description: ``model.safetensors`` and ``model.json``, no pickle.

Neither Lightning nor Hydra is needed to read it, and a file someone was sent cannot run code: the description may name
only networks and sparsity methods of this package or of modules that the caller has imported already.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch
from safetensors.torch import load_file, save

from sparse_ae.build import ConfigError, build, check_trusted
from sparse_ae.checkpoint_file import CheckpointError, read_checkpoint
from sparse_ae.files import write_atomically
from sparse_ae.models import Network, SparseAutoencoder
from sparse_ae.runs import Run, RunError
from sparse_ae.sparsity import Sparsity

Weights = Literal["final", "best"]

_FORMAT = 1


def build_autoencoder(network: Mapping[str, Any], sparsity: Mapping[str, Any], *, input_dim: int) -> SparseAutoencoder:
    """The autoencoder of a ``model`` and a ``sparsity`` spec, freshly initialised from torch's global RNG."""
    try:
        net: Network = build(network, "model", input_dim=input_dim)
        return SparseAutoencoder(net, build(sparsity, "sparsity", latent_dim=net.latent_dim))
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error


def save_model(
    run: Run,
    model: SparseAutoencoder,
    *,
    network: Mapping[str, Any],
    sparsity: Mapping[str, Any],
    input_shape: tuple[int, ...],
) -> None:
    """Write the model and the specs it was built from into the run."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(run.weights, save(state))
    run.write_model_spec(
        {
            "format": _FORMAT,
            "input_shape": list(input_shape),
            "input_dim": model.network.input_dim,
            "network": dict(network),
            "sparsity": dict(sparsity),
        }
    )


def load(run: Path | str | Run, weights: Weights = "final") -> SparseAutoencoder:
    """The trained model of a run, in evaluation mode, on the CPU.

    ``weights``: those at the end of training, or the checkpoint with the best monitored metric. Raises ``RunError`` if
    the run, its model or its weights are missing or damaged, ``ConfigError`` if its description is not trusted.
    """
    if not isinstance(run, Run):
        run = Run.open(run)
    spec = run.read_model_spec()
    if spec.get("format") != _FORMAT:
        raise RunError(f"{run.model_spec}: format {spec.get('format')} is not known (allowed: {_FORMAT})")
    for key, base in (("network", Network), ("sparsity", Sparsity)):
        check_trusted(spec.get(key), base, str(run.model_spec))
    model = build_autoencoder(spec["network"], spec["sparsity"], input_dim=int(spec.get("input_dim", 0)))
    path = run.weights if weights == "final" else run.best_checkpoint
    try:
        model.load_state_dict(_read_final(path) if weights == "final" else _read_best(path))
    except (OSError, RuntimeError, KeyError, CheckpointError, safetensors.SafetensorError) as error:
        raise RunError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error
    return model.eval()


def _read_final(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path)


def _read_best(path: Path) -> dict[str, torch.Tensor]:
    state = read_checkpoint(path)["state_dict"]
    prefix = "objective.model."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
