"""``sparse_ae.load``: light, exact, and safe with files someone was sent."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import sparse_ae
from sparse_ae.run.errors import RunError


def test_load_needs_neither_lightning_nor_hydra(finished_run: Path) -> None:
    code = (
        "import sys, sparse_ae, torch\n"
        f"model = sparse_ae.load({str(finished_run)!r})\n"
        "print(tuple(model.encode(torch.rand(3, 784)).shape), [m for m in ('lightning', 'hydra', 'torchvision')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(3, 128) []"


def test_final_and_best_weights(finished_run: Path) -> None:
    final, best = sparse_ae.load(finished_run), sparse_ae.load(finished_run, weights="best")
    saved = load_file(finished_run / "model.safetensors")
    assert saved.keys() == final.state_dict().keys() == best.state_dict().keys()
    for name, tensor in final.state_dict().items():
        assert torch.equal(tensor, saved[name])
    checkpoint = torch.load(finished_run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    for name, tensor in best.state_dict().items():
        assert torch.equal(tensor, checkpoint[f"objective.model.{name}"])


def test_the_shape_of_samples_is_loaded(finished_run: Path) -> None:
    model = sparse_ae.load(finished_run)
    images = torch.rand(3, 1, 28, 28)
    z = model.encode(images)
    assert torch.equal(z, model.encode(images.flatten(1)))
    assert model.decode(z).shape == (3, 784)
    assert model.decode(z, shaped=True).shape == images.shape


@pytest.mark.parametrize("shape", [None, [], [28, 28, 1.0], [1, 28, 27], "784", [-28, -28]])
def test_a_shape_that_is_not_the_models_is_damage(run_copy: Path, shape: object) -> None:
    _edit(run_copy, input_shape=shape)
    with pytest.raises(
        RunError, match=r"model.json: is damaged \(its input_shape is .*, and the model takes 784 values"
    ):
        sparse_ae.load(run_copy)


def _edit(run: Path, **changes: object) -> None:
    path = run / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("os.system", "is not a subclass of Network"),
        ("subprocess.Popen", "is not a subclass of Network"),
        ("antigravity.fly", "is not trusted"),
        ("sparse_ae.run.directory.Run", "is not a subclass of Network"),
        ("sparse_ae.sparsity.KL", "is not a subclass of Network"),
        ("sparse_ae.models.Nothing", "is not a subclass of Network"),
    ],
)
def test_a_description_cannot_run_code(run_copy: Path, target: str, message: str) -> None:
    _edit(run_copy, network={"_target_": target, "command": "echo"})
    with pytest.raises(RunError, match=message):
        sparse_ae.load(run_copy)
    assert "antigravity" not in sys.modules


def test_a_nested_description_cannot_run_code_either(run_copy: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    spec = json.loads((run_copy / "model.json").read_text())["network"]
    call = {"_target_": "os.mkdir", "path": str(witness)}
    _edit(run_copy, network=spec | {"hidden_sizes": [call]})
    with pytest.raises(RunError, match="is not trusted"):
        sparse_ae.load(run_copy)
    assert not witness.exists()


@pytest.mark.parametrize("network", [None, [], {}, "sparse_ae.models.MLP"])
def test_a_description_of_nothing(run_copy: Path, network: object) -> None:
    _edit(run_copy, network=network)
    with pytest.raises(RunError, match="describes no Network"):
        sparse_ae.load(run_copy)


def test_unknown_format(run_copy: Path) -> None:
    _edit(run_copy, format=99)
    with pytest.raises(RunError, match=r"format 99 is not known \(expected 3\)"):
        sparse_ae.load(run_copy)


@pytest.mark.parametrize("content", [b"", b"not safetensors", None])
def test_damaged_weights(run_copy: Path, content: bytes | None) -> None:
    path = run_copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(RunError, match=r"model\.safetensors: cannot be read"):
        sparse_ae.load(run_copy)


def test_weights_of_another_model(run_copy: Path) -> None:
    spec = json.loads((run_copy / "model.json").read_text())["network"]
    _edit(run_copy, network=spec | {"latent_dim": 64})
    with pytest.raises(RunError, match=r"model\.safetensors: cannot be read"):
        sparse_ae.load(run_copy)


def test_a_run_without_a_model(run_copy: Path) -> None:
    """It was killed: its last record says that it runs."""
    (run_copy / "model.json").unlink()
    status = json.loads((run_copy / "status.json").read_text())
    (run_copy / "status.json").write_text(json.dumps(status | {"state": "running"}))
    with pytest.raises(RunError, match="has no model yet; its state is interrupted"):
        sparse_ae.load(run_copy)
