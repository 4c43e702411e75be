"""TensorBoard images and histograms, every few epochs."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from pydantic import PositiveInt
from torch import Tensor
from torchvision.utils import make_grid

from sparse_ae.functional import lifetime_sparsity
from sparse_ae.training.logger import RunLogger
from sparse_ae.training.module import ours

_HISTOGRAM_SAMPLES = 1000


class Visuals(Callback):
    """Logs inputs above their reconstructions, the first atoms, and histograms of codes and lifetime sparsity.

    This happens every ``every_n_epochs`` epochs and after the last, on validation images, or on training images without
    a validation split. Training state is not touched.
    """

    def __init__(
        self, *, every_n_epochs: PositiveInt = 5, n_images: PositiveInt = 16, n_features: PositiveInt = 64
    ) -> None:
        self.every_n_epochs = every_n_epochs
        self.n_images = n_images
        self.n_features = n_features

    @rank_zero_only
    @torch.inference_mode()
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if due after this epoch."""
        module, logger = ours(pl_module), pl_module.logger
        epoch = trainer.current_epoch + 1
        if not isinstance(logger, RunLogger) or (epoch % self.every_n_epochs and epoch != trainer.max_epochs):
            return
        data, model, step = module.data, module.model, trainer.global_step
        x = data.first("val" if data.val_size else "train", _HISTOGRAM_SAMPLES).to(next(model.parameters()))
        z = model.encode_rows(x)
        x_hat = model.decode_rows(z[: self.n_images])
        pairs = torch.cat([x[: self.n_images], x_hat]).clamp(0, 1)
        lifetime = module.lifetime("val")
        if lifetime is None:  # no validation at this step
            lifetime = lifetime_sparsity(z, module.threshold)
        writer = logger.experiment
        writer.add_image("reconstructions", make_grid(self._shaped(pairs, data.input_shape), nrow=self.n_images), step)
        atoms = self._shaped(model.dictionary[: self.n_features], data.input_shape)
        columns = int(len(atoms) ** 0.5)
        writer.add_image("features", make_grid(atoms, nrow=columns, normalize=True, scale_each=True), step)
        writer.add_histogram("codes", z.float().cpu(), step)
        writer.add_histogram("lifetime_sparsity", lifetime.cpu(), step)

    @staticmethod
    def _shaped(flat: Tensor, shape: tuple[int, ...]) -> Tensor:
        return flat.float().cpu().reshape(-1, *shape)
