"""Images and histograms for TensorBoard and other loggers that take them, every few epochs."""

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from pydantic import PositiveInt
from torch import Tensor
from torchvision.utils import make_grid

from sparse_ae.functional import block_rows, lifetime_sparsity
from sparse_ae.loggers import RunLogger
from sparse_ae.plotting.pictures import Array, View, own_scale
from sparse_ae.training.module import ours

_HISTOGRAM_SAMPLES = 1000
"""Largest number of samples whose codes are drawn."""
_LEAST_PIXELS = 24
"""Width from which on pictures are not enlarged."""


class Visuals(Callback):
    """Logs inputs above their reconstructions, the first atoms, and histograms of codes and lifetime sparsity.

    This happens every ``every_n_epochs`` epochs and after the last, which a callback may have made the last, on
    validation samples, or on training samples without a validation split. Vectors are heat maps in grey, see ``View``;
    of text there are only the histograms.
    Training state is not touched.
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
        loggers = [logger for logger in trainer.loggers if isinstance(logger, RunLogger) and logger.draws]
        epoch = trainer.current_epoch + 1
        is_last = epoch == trainer.max_epochs or trainer.should_stop
        if not loggers or (epoch % self.every_n_epochs and not is_last):
            return
        module = ours(pl_module)
        data, model, step = module.data, module.model, trainer.global_step
        samples = max(block_rows(model.latent_dim, _HISTOGRAM_SAMPLES), self.n_images)
        x = data.first("val" if data.val_size else "train", samples).to(next(model.parameters()))
        z = model.encode_rows(x)
        x_hat = model.decode_rows(z[: self.n_images])
        lifetime = module.lifetime("val")
        if lifetime is None:  # no validation at this step
            lifetime = lifetime_sparsity(z, module.threshold)
        pictures = dict[str, Tensor]()
        if not data.is_of_text:
            view = View.of(_numpy(x), data.input_shape)
            pictures["reconstructions"] = pairs_grid(x[: self.n_images], x_hat, view)
            pictures["features"] = atoms_grid(model.dictionary[: self.n_features], view)
        for logger in loggers:
            for tag, picture in pictures.items():
                logger.add_image(tag, picture, step)
            logger.add_histogram("codes", z.float().cpu(), step)
            logger.add_histogram("lifetime_sparsity", lifetime.cpu(), step)


def pairs_grid(x: Tensor, x_hat: Tensor, view: View) -> Tensor:
    """Inputs ``(n, D)`` above outputs ``(n, D)`` in the range of ``view``, as one image ``(3, H, W)``."""
    grid: Tensor = make_grid(_pixels(view.scaled(view.pictures(_numpy(torch.cat([x, x_hat]))))), nrow=len(x))
    return grid


def atoms_grid(atoms: Tensor, view: View) -> Tensor:
    """Atoms ``(n, D)`` in a square, each on its own scale, as one image ``(3, H, W)``.

    In colour, 0 is a medium grey if an atom has a negative value.
    """
    signed = view.in_colour and bool((atoms < 0).any())
    pictures = np.stack([own_scale(picture, signed=signed) for picture in view.pictures(_numpy(atoms))])
    grid: Tensor = make_grid(_pixels(pictures), nrow=int(len(atoms) ** 0.5))
    return grid


def _pixels(pictures: Array) -> Tensor:
    """Pictures ``(n, H, W)`` or ``(n, H, W, 3)`` from 0 to 1 as ``(n, C, H, W)``, small ones enlarged; NaN is black."""
    channels = np.moveaxis(pictures, 3, 1) if pictures.ndim == 4 else pictures[:, None]
    times = -(-_LEAST_PIXELS // channels.shape[-1])
    return torch.from_numpy(np.nan_to_num(channels).repeat(times, axis=-2).repeat(times, axis=-1))


def _numpy(rows: Tensor) -> Array:
    found: Array = rows.float().cpu().numpy()
    return found
