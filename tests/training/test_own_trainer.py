"""The module in a Trainer of the user's own: Lightning's callbacks, loggers and returned metrics work as with any."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

from sparse_ae.config.errors import ConfigError
from sparse_ae.data import Arrays
from sparse_ae.models import MLP, SparseAutoencoder
from sparse_ae.sparsity import L1
from sparse_ae.training.module import SparseAutoencoderModule
from sparse_ae.training.objective import Objective

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning:lightning",  # of torch's trees
    "ignore:.*does not have many workers",
    "ignore:The number of training batches",
    "ignore:You defined a `validation_step` but have no",
)


@pytest.fixture
def data(tmp_path: Path) -> Arrays:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((200, 8), dtype=np.float32))
    return Arrays(path=str(tmp_path / "x.npy"), batch_size=40)


@pytest.fixture
def module() -> SparseAutoencoderModule:
    return SparseAutoencoderModule(Objective(SparseAutoencoder(MLP(8, latent_dim=4), L1(latent_dim=4))))


def _trainer(folder: Path, **options: Any) -> Trainer:
    return Trainer(default_root_dir=folder, accelerator="cpu", enable_progress_bar=False, **options)


def test_metrics_are_returned_and_logged_once(
    data: Arrays, module: SparseAutoencoderModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = CSVLogger(tmp_path)
    trainer = _trainer(tmp_path, max_epochs=2, logger=logger, enable_checkpointing=False)
    trainer.fit(module, data)
    assert trainer.logged_metrics.keys() >= {"train/loss", "train/l1_coefficient", "val/fvu"}
    assert trainer.callback_metrics["val/fvu"] == trainer.logged_metrics["val/fvu"] == module.results["val/fvu"]
    fitted = module.results.copy()
    (validated,) = trainer.validate(module, data)
    assert validated == {name: value for name, value in fitted.items() if name.startswith("val/")}
    capsys.readouterr()
    (tested,) = trainer.test(module, data)
    assert tested == {name: value for name, value in module.results.items() if name.startswith("test/")}
    assert f"{tested['test/fvu']:.6f}"[:6] in capsys.readouterr().out
    table = pd.read_csv(Path(logger.log_dir) / "metrics.csv")
    assert table["test/fvu"].dropna().tolist() == [tested["test/fvu"]]
    assert table["val/fvu"].count() == 3  # of two epochs, and the validation that was asked for
    assert table["train/loss"].count() == 2


def test_lightnings_callbacks_watch_metrics(data: Arrays, module: SparseAutoencoderModule, tmp_path: Path) -> None:
    stop = EarlyStopping("val/fvu", min_delta=100, patience=1)
    best = ModelCheckpoint(tmp_path / "checkpoints", "best", monitor="val/fvu", mode="max")
    trainer = _trainer(tmp_path, max_epochs=9, logger=False, callbacks=[stop, best])
    trainer.fit(module, data)
    assert trainer.current_epoch == 2
    loaded = SparseAutoencoderModule.load_from_checkpoint(best.best_model_path, objective=module.objective)
    assert best.best_model_score in [stop.best_score, trainer.callback_metrics["val/fvu"]]
    assert trainer.validate(loaded, data, verbose=False)[0]["val/fvu"] == best.best_model_score


def test_a_loader_that_is_no_data_module(module: SparseAutoencoderModule, tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, max_epochs=1, logger=False, enable_checkpointing=False, limit_val_batches=0)
    loader = DataLoader(TensorDataset(torch.rand(20, 8)), batch_size=5)
    with pytest.raises(ConfigError, match=r"^datamodule: .* \(expected a DataModule of sparse_ae\.data"):
        trainer.fit(module, loader)
