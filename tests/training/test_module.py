"""Training: what is logged, how it fails, how it resumes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sparse_ae.data import DataModule
from sparse_ae.jobs.autoencoder import AutoencoderJob
from sparse_ae.metrics import NAMES
from sparse_ae.run.checkpoint import read_checkpoint
from sparse_ae.run.directory import Run
from sparse_ae.training.losses import NonFiniteLossError
from sparse_ae.training.module import SparseAutoencoderModule
from sparse_ae.training.schedulers import cosine, warmup_linear
from tests.helpers import SMALL, plain_config, train_run


def _events(run: Path) -> EventAccumulator:
    """What training wrote; each analysis has a file of its own."""
    files = [path for path in run.glob("events.out.tfevents.*") if ".analysis-" not in path.name]
    assert len(files) == 1
    events = EventAccumulator(str(files[0]), size_guidance={"scalars": 0, "images": 0, "histograms": 0})
    events.Reload()
    return events


def test_tensorboard_has_every_scalar_under_its_name(finished_run: Path) -> None:
    events = _events(finished_run)
    scalars = set(events.Tags()["scalars"])
    train_names = {"train/loss", "train/recon", "train/l1", "train/l1_coefficient"}
    assert scalars >= train_names | {f"{split}/{name}" for split in ("val", "test") for name in NAMES}
    assert [e.step for e in events.Scalars("train/loss")] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert [e.step for e in events.Scalars("val/mse")] == [20, 40]
    assert [e.step for e in events.Scalars("test/mse")] == [40]
    assert {e.value for e in events.Scalars("train/l1_coefficient")} == {np.float32(0.01)}
    metrics = Run(finished_run).metrics
    for name in ("test/mse", "test/fvu", "test/l0", "val/mse", "val/hoyer"):
        assert events.Scalars(name)[-1].value == pytest.approx(metrics[name], rel=1e-6)
    loss, recon, l1 = (np.array([e.value for e in events.Scalars(f"train/{n}")]) for n in ("loss", "recon", "l1"))
    np.testing.assert_allclose(loss, recon + 0.01 * l1, rtol=1e-5)


def test_tensorboard_has_images_and_histograms(finished_run: Path) -> None:
    events = _events(finished_run)
    assert set(events.Tags()["images"]) == {"reconstructions", "features"}
    assert set(events.Tags()["histograms"]) == {"codes", "lifetime_sparsity"}
    image = events.Images("reconstructions")[-1]
    assert (image.step, image.width, image.height) == (40, 16 * 30 + 2, 2 * 30 + 2)
    assert events.Histograms("lifetime_sparsity")[-1].histogram_value.num == 128
    assert events.Histograms("codes")[-1].histogram_value.num == 1000 * 128


def _assemble(tmp_path: Path, *overrides: str) -> tuple[DataModule, SparseAutoencoderModule, Trainer]:
    experiment = AutoencoderJob(plain_config(*SMALL, "visuals.every_n_epochs=100", *overrides), Run(tmp_path))
    return experiment.data, experiment.module, experiment.trainer


def test_nothing_is_read_from_the_device_between_logging_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every ``.item()`` and ``float()`` of a tensor waits for the device: count them over 20 steps, logging each 10."""
    data, module, trainer = _assemble(tmp_path, "trainer.log_every_n_steps=10", "trainer.max_epochs=1")
    reads: list[int] = []

    def counted(name: str) -> Callable[..., object]:
        original = getattr(torch.Tensor, name)

        def read(self: torch.Tensor, *args: object) -> object:
            if trainer.training and 1 <= trainer.global_step < 9:
                reads.append(trainer.global_step)
            return original(self, *args)

        return read

    for name in ("item", "tolist", "__float__", "__bool__", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, counted(name))
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == 20
    assert reads == []


def test_a_diverging_term_is_named_with_its_step_and_the_last_good_checkpoint_stays(tmp_path: Path) -> None:
    data, module, trainer = _assemble(tmp_path, "trainer.max_epochs=3", "sparsity=l1")
    original = module.model.sparsity.losses

    def poisoned(*args: object) -> dict[str, torch.Tensor]:
        terms = original(*args)
        return {"l1": terms["l1"] * float("nan")} if trainer.global_step == 32 else terms

    module.model.sparsity.losses = poisoned
    with pytest.raises(NonFiniteLossError, match=r"^l1 became nan at step 33$"):
        trainer.fit(module, datamodule=data)
    assert module.global_step == 35  # found at the end of the interval
    checkpoint = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert checkpoint["global_step"] == 20
    assert all(t.isfinite().all() for t in checkpoint["state_dict"].values() if isinstance(t, torch.Tensor))


@pytest.mark.parametrize("val_size", [0, 5000])
def test_weights_that_became_nan_in_an_epochs_last_step_reach_no_checkpoint(tmp_path: Path, val_size: int) -> None:
    data, module, trainer = _assemble(tmp_path, f"data.val_size={val_size}", "trainer.max_epochs=3")
    after_step = module.model.network.on_step_end_

    def poisoned() -> None:
        after_step()
        if trainer.global_step == 39:  # the 40th step is under way
            with torch.no_grad():
                next(module.model.parameters()).fill_(float("inf"))

    module.model.network.on_step_end_ = poisoned
    with pytest.raises(NonFiniteLossError, match="a weight is NaN or infinite at step 40"):
        trainer.fit(module, datamodule=data)
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 20


def test_a_failed_run_says_so_in_its_status(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match="at step"):
        train_run(tmp_path, *SMALL, "optimizer.lr=1e30", "sparsity=l1", "model=linear", "model.unit_norm=false")
    status = Run(tmp_path).status
    assert status.state == "failed"
    assert "at step" in str(status.error)
    assert not (tmp_path / "model.safetensors").exists()


def test_coefficient_warms_up_as_its_formula_says(tmp_path: Path) -> None:
    overrides = ("sparsity.warmup_steps=8", "trainer.log_every_n_steps=1", "trainer.limit_train_batches=10")
    data, module, trainer = _assemble(tmp_path, "trainer.max_epochs=1", *overrides)
    trainer.fit(module, datamodule=data)
    coefficients = [e.value for e in _events(tmp_path).Scalars("train/kl_coefficient")]
    np.testing.assert_allclose(coefficients, [0.01 * min(1, (t + 1) / 8) for t in range(10)], rtol=1e-6)


def test_learning_rate_schedules() -> None:
    def rates(make: Callable[..., torch.optim.lr_scheduler.LambdaLR], **options: float) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
        scheduler = make(optimizer, total_steps=10, **options)
        values = []
        for _ in range(11):
            values.append(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()
        return values

    np.testing.assert_allclose(rates(cosine, final_share=0.0)[::5], [2, 1, 0], atol=1e-12)
    np.testing.assert_allclose(rates(cosine, final_share=0.5)[::5], [2, 1.5, 1], atol=1e-12)
    warm = rates(warmup_linear, warmup_steps=2, final_share=0.0)
    np.testing.assert_allclose(warm[:3] + warm[-1:], [1, 2, 2, 0], atol=1e-12)


def test_gradient_clipping_and_accumulation_go_through_lightning(tmp_path: Path) -> None:
    data, module, trainer = _assemble(
        tmp_path,
        "trainer.gradient_clip_val=1e-3",
        "trainer.accumulate_grad_batches=2",
        "trainer.max_epochs=1",
    )
    norms: list[float] = []
    original = module.optimizer_step

    def step(epoch: int, batch: int, optimizer: torch.optim.Optimizer, closure: Callable[[], object]) -> None:
        original(epoch, batch, optimizer, closure)
        norms.append(float(torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None]).norm()))

    module.optimizer_step = step
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == 10
    assert max(norms) <= 1e-3 * (1 + 1e-4)


@pytest.mark.slow
def test_compiled_training_takes_the_same_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``compile=true`` hands the objective to ``torch.compile``; the eager backend spares the test the C++ compiler."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f: real(f, backend="eager"))
    losses = []
    for name, flag in (("eager", "false"), ("compiled", "true")):
        data, module, trainer = _assemble(tmp_path / name, f"compile={flag}", "trainer.max_epochs=1")
        trainer.fit(module, datamodule=data)
        losses.append(module.results["train/loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["trainer.limit_train_batches=0.1"],
        ["trainer.limit_train_batches=1.0", "data.batch_size=100"],
        ["trainer.accumulate_grad_batches=3"],
        ["trainer.max_steps=7"],
        ["trainer.max_steps=7", "trainer.max_epochs=-1"],
        ["trainer.fast_dev_run=2"],
    ],
    ids=" ".join,
)
def test_total_steps_are_lightnings(tmp_path: Path, overrides: list[str]) -> None:
    data, module, trainer = _assemble(tmp_path, *overrides)
    trainer.strategy.connect(module)
    trainer._data_connector.attach_data(module, datamodule=data)
    data.prepare_data()
    data.setup("fit")
    assert module.total_steps() == trainer.estimated_stepping_batches


def test_how_often_is_logged_changes_nothing(tmp_path: Path) -> None:
    """With an auxiliary loss that is left out while no unit is dead."""
    ends = []
    for every in (1, 7):
        run = train_run(
            tmp_path / str(every),
            *[override for override in SMALL if "log_every" not in override],
            f"trainer.log_every_n_steps={every}",
            "model=linear",
            "sparsity=topk",
            "sparsity.k=2",
            "dead=auxk",
            "dead.window_epochs=0.3",
            "trainer.limit_train_batches=60",
        )
        ends.append(run.weights.read_bytes())
        assert run.metrics["train/auxk"] > 0
    assert ends[0] == ends[1]
