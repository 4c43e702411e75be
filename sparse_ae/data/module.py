"""Base class of datasets: splits, scale, storage, loaders."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.utils.data import DataLoader

from sparse_ae.config.checked import checked
from sparse_ae.config.errors import ConfigError
from sparse_ae.data.device import usable_device
from sparse_ae.data.disk import DiskLoader, block_rows, window_rows
from sparse_ae.data.examples import Text
from sparse_ae.data.files import data_root
from sparse_ae.data.loader import Batch, Loader, ResidentLoader, Shift
from sparse_ae.data.order import EpochSampler
from sparse_ae.data.rows import MemoryRows, Rows, Subset
from sparse_ae.data.scale import Moments, Normalization, Scale
from sparse_ae.data.splits import Parts, Size, Split, draw, n_rows
from sparse_ae.data.storage import Storage, Tier, choose_tier
from sparse_ae.data.transformed import TransformedRows, transformed_loader

AnyLoader = Loader[Any] | DataLoader[Batch]

_CHUNK_VALUES = 2**20
"""Number of values that the pass over the training split holds at a time."""


class Samples(NamedTuple):
    """Rows of a file or of a split, and their classes."""

    rows: Rows
    """Rows as stored, ``(n, D)``."""
    label: Tensor | None
    """Classes, int64 ``(n,)``; None for data without."""


class DataModule(LightningDataModule, ABC):
    """Train, val and test split of one dataset.

    Validation and test rows that have no file of their own are drawn from the training file by ``seed``. The test split
    is read only by ``split("test")``.

    - ``val_size``: number of validation rows, or their share; 0 for none.
    - ``normalize``: scale of what is trained on, see ``Scale.fit``. It belongs to the model, which takes and gives the
      data's own unit.
    - ``storage``: rows on the training ``device``, in the memory of the ``host``, or on ``disk``; ``auto`` is the first
      with room for them. It changes the speed and nothing else: on all of them an epoch has the same order.
    - ``window_gb``: memory that training takes for rows on disk. Data that exceed a quarter of it are shuffled in
      windows of that size, on every tier.
    - ``device``: device of the rows; ``auto`` is the trainer's.
    - ``root``: folder of files that are downloaded or made; by default ``$SPARSE_AE_DATA``, else a per-user cache.
    - ``transforms``: of training images, by a DataLoader with ``num_workers`` workers. With ``transform_target`` the
      transformed image is reconstructed (augmentation), else the clean one (denoising).
    - ``shift``, ``shift_epochs``: augmentation of training images, see ``Shift``.

    Raises ``ConfigError`` for sizes that leave no training batch, and for options that exclude each other.
    """

    is_of_text: ClassVar[bool] = False
    """True if rows stand for tokens of a text, which a reader is shown instead of them."""
    is_of_pictures: ClassVar[bool] = False
    """True if the files of its options are pictures in folders, and not arrays."""
    input_shape: tuple[int, ...]
    """Shape of one row: (channels, height, width) of an image, (D,) of a vector."""
    test_size: Size = 0
    """Number of test rows, or their share, drawn from the training file."""
    training_device: torch.device | None = None
    """Device of a trainer that is not attached yet."""
    groups: Tensor | None = None
    """Group ``(n,)`` of each row of the training file; groups stay whole."""
    groups_option: ClassVar[str] = "split_by"
    """Option that groups come from."""

    @checked
    def __init__(
        self,
        *,
        # Files and splits
        root: str | None = None,
        seed: NonNegativeInt = 42,
        val_size: Size = 5000,
        normalize: Normalization = "none",
        # Loading
        batch_size: PositiveInt = 128,
        eval_batch_size: PositiveInt = 1000,
        storage: Storage = "auto",
        window_gb: PositiveFloat = 0.5,
        device: str = "auto",
        # Augmentation and corruption of training images
        transforms: Sequence[Callable[..., Tensor]] = (),
        transform_target: bool = False,
        num_workers: NonNegativeInt = 0,
        shift: NonNegativeInt = 0,
        shift_epochs: NonNegativeInt | None = None,
    ) -> None:
        super().__init__()
        self.root = data_root(root)
        self.seed = seed
        self.normalize = normalize
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.storage = storage
        self.window_gb = window_gb
        self.device = device if device == "auto" else str(usable_device(device))
        self.transforms = list(transforms)
        self.transform_target = transform_target
        self.num_workers = num_workers
        self.shift = Shift(shift, shift_epochs, self.input_shape)
        self._wanted = {"val": val_size, "test": self.test_size}
        self._splits: dict[Split, Samples] = {}
        self._check_sizes()
        self._check_augmentation()

    # Files: a dataset says what it has.

    @abstractmethod
    def count(self, name: Split) -> int | None:
        """Number of rows of the split's own file, known before any is read; None if it has none."""

    @abstractmethod
    def source(self, name: Split) -> Samples:
        """The split's own file. Call ``prepare_data`` before."""

    def inspect(self) -> None:
        """Read the data once, before training. Raises ``ConfigError`` for those that cannot be trained on."""
        self.prepare_data()
        if not self.moments.variance.any():
            raise ConfigError("data", reason="all training rows are the same", expected="rows that differ")

    def describe(self) -> str:
        """A line about the size and the place of data that are the user's own; empty for a known dataset."""
        return ""

    @property
    def doubts(self) -> list[str]:
        """Properties of the data that are probably mistakes, a line each."""
        return []

    @property
    def are_integers(self) -> bool:
        """True if the data's own unit is that of stored integers."""
        return False

    @property
    def fingerprint(self) -> str | None:
        """Digest of the files; None for data that are read again for their moments each time."""
        return None

    def origin(self, name: Split) -> str:
        """Key of the option that the values of a split come from, for errors about them."""
        return "data"

    @property
    def row_bytes(self) -> int:
        """Size of a stored row."""
        return self.input_dim

    def to_float(self, stored: Tensor) -> Tensor:
        """Convert stored rows ``(B, D)`` to floats in the data's own unit."""
        return stored.float()

    @property
    def in_unit_interval(self) -> bool:
        """True if what is trained on is known to lie in [0, 1]."""
        return self.normalize == "unit_interval"

    # Splits.

    @property
    def input_dim(self) -> int:
        """Number of values in one row, D."""
        return int(torch.Size(self.input_shape).numel())

    @cached_property
    def sizes(self) -> dict[Split, int]:
        """Number of rows of each split, known before any is read."""
        names: tuple[Split, ...] = ("train", "val", "test")
        if self.groups is None:
            drawn = {name: self._n_drawn(name) for name in ("val", "test")}
            drawn["train"] = self._file_size - sum(drawn.values())
        else:
            drawn = {name: len(part) for name, part in self._parts._asdict().items()}
        own = {name: None if name == "train" else self.count(name) for name in names}
        return {name: drawn[name] if (count := own[name]) is None else count for name in names}

    @property
    def train_size(self) -> int:
        """Number of training rows."""
        return self.sizes["train"]

    @property
    def val_size(self) -> int:
        """Number of validation rows."""
        return self.sizes["val"]

    @property
    def train_batches(self) -> int:
        """Number of batches in one training epoch of each rank."""
        world_size = self.trainer.world_size if self.trainer else 1
        return -(-(self.train_size // world_size) // self.batch_size)

    def split(self, name: Split) -> Samples:
        """The rows of one split, in memory unless the tier is ``disk``. Call ``prepare_data`` before."""
        if name not in self._splits:
            own = name != "train" and self.count(name) is not None
            rows, label = self.source(name if own else "train")
            if not own:
                index = getattr(self._parts, name)
                rows, label = Subset(rows, index), None if label is None else label[index]
            if self.tier != "disk":
                rows = MemoryRows(rows.read(0, len(rows)).reshape(-1, *rows.shape))
            self._splits[name] = Samples(rows, label)
        return self._splits[name]

    def examples(self, name: Split, n: int) -> Text | None:
        """Text of the first ``n`` rows of a split; None for data that are no text. Call ``prepare_data`` before."""
        return None

    @property
    def _file_size(self) -> int:
        n = self.count("train")
        assert n is not None
        return n

    def _n_drawn(self, name: Split) -> int:
        return n_rows(self._wanted[name], self._file_size) if self.count(name) is None else 0

    @cached_property
    def _parts(self) -> Parts:
        sizes = self._file_size, self._n_drawn("val"), self._n_drawn("test")
        parts = draw(*sizes, self.seed, self.groups, self.groups_option)
        # Rows that a window cannot hold are to be read in the order of the file.
        return parts if self._window is None else Parts(*(part.sort().values for part in parts))

    # Scale.

    @cached_property
    def scale(self) -> Scale:
        """Scale fitted to the training split, on the CPU."""
        if self.normalize == "none":  # needs no pass over the data
            return Scale()
        return Scale.fit(self.normalize, self.moments)

    @cached_property
    def moments(self) -> Moments:
        """Moments of the training split, in the data's own unit, kept in ``root``. Raises as ``first_pass`` does."""
        if self.fingerprint is None:
            return self.first_pass()
        known = [self.fingerprint, self.seed, self.sizes, self.normalize == "whiten"]
        file = self.root / "moments" / hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]
        moments = Moments.load(file)
        if moments is None:
            moments = self.first_pass()
            moments.save(file)
        return moments

    def first_pass(self) -> Moments:
        """Moments of the training split. Raises ``ConfigError`` for the first value that is not finite."""
        return Moments.of(self._chunks("train"), covariance=self.normalize == "whiten")

    @property
    def range(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest value of the training split, on its scale."""
        ends = self.scale(torch.tensor([[self.moments.low], [self.moments.high]]).expand(2, self.input_dim))
        return ends.min(), ends.max()

    @cached_property
    def train_mean(self) -> Tensor:
        """Mean training row on its scale, float32 ``(D,)``: the prediction whose FVU is 1."""
        mean: Tensor = self.scale(self.moments.mean.float())
        return mean

    def scaled(self, stored: Tensor) -> Tensor:
        """Stored rows ``(B, D)`` as they are trained on."""
        x: Tensor = self.scale.to(stored.device)(self.to_float(stored))
        return x

    def first(self, name: Split, n: int) -> Tensor:
        """The first ``n`` rows of a split as they are trained on, or all if there are fewer, ``(B, D)``."""
        rows = self.split(name).rows
        return self.scaled(rows.read(0, min(n, len(rows))))

    def _chunks(self, name: Split) -> Iterator[Tensor]:
        """All rows of a split as floats. Raises ``ConfigError`` for the first value that is not finite."""
        rows, size = self.split(name).rows, max(1, _CHUNK_VALUES // self.input_dim)
        for start in range(0, len(rows), size):
            x = self.to_float(rows.read(start, min(start + size, len(rows))))
            if not torch.stack(x.aminmax()).isfinite().all():  # ten times as fast as testing each value
                row, column = (~x.isfinite()).nonzero()[0].tolist()
                drawn = name == "train" or self.count(name) is None
                place = int(getattr(self._parts, name)[start + row]) if drawn else start + row
                file = "training" if drawn else name
                reason = f"row {place}, column {column} of the {file} file is {x[row, column]:g}"
                raise ConfigError(self.origin(name), reason=reason, expected="finite numbers")
            yield x

    # Loaders.

    def prepare_data(self) -> None:
        """Fetch the files, once per machine."""

    def setup(self, stage: str) -> None:
        """Read the files that ``stage`` needs: never the test file for ``fit`` or ``validate``."""
        self.split("test" if stage == "test" else "train")

    def train_dataloader(self) -> AnyLoader:
        """Return the training split in the order of (seed, epoch), augmented."""
        return self._loader("train", self.batch_size, shuffle=True)

    def val_dataloader(self) -> AnyLoader | list[Batch]:
        """Return the validation split in stored order; no batches without one."""
        return self.eval_dataloader("val") if self.val_size else []

    def test_dataloader(self) -> AnyLoader:
        """Return the test split in stored order."""
        return self.eval_dataloader("test")

    def eval_dataloader(self, name: Split) -> AnyLoader:
        """Return a split in stored order, each row once."""
        return self._loader(name, self.eval_batch_size, shuffle=False)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch; skip Lightning's walk through it if it is on the device already."""
        if batch[0].device == device:
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    @cached_property
    def tier(self) -> Tier:
        """Place of the rows."""
        size, on_disk = self._file_size * self.row_bytes, self.source("train").rows.is_mapped
        return choose_tier(self.storage, size, self._device, on_disk=on_disk)

    @property
    def _device(self) -> torch.device:
        if self.device != "auto":
            return torch.device(self.device)
        if self.training_device is not None:
            return self.training_device
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    @property
    def _window(self) -> int | None:
        """Number of rows of a window of the training order; None if one window holds them all."""
        rows = window_rows(self.window_gb, self.row_bytes)
        return None if self._file_size <= rows else rows

    def _loader(self, name: Split, batch_size: int, *, shuffle: bool) -> AnyLoader:
        rows = self.split(name).rows
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = EpochSampler(
            len(rows),
            seed=self.seed,
            shuffle=shuffle,
            rank=rank,
            world_size=world_size,
            resume_at=self._resume_at() if name == "train" else (0, 0),
            window=self._window,
            block=block_rows(self.row_bytes),
        )
        if shuffle and self.transforms:
            dataset = TransformedRows(
                rows,
                self.scaled,
                self.input_shape,
                self.transforms,
                transform_target=self.transform_target,
                seed=self.seed,
            )
            return transformed_loader(dataset, sampler, batch_size, self.num_workers)
        shift = self.shift if shuffle else None
        pin = self.tier != "device" and self._device.type == "cuda"
        if self.tier == "disk":
            return DiskLoader(rows, sampler, batch_size, self.scaled, shift=shift, pin=pin)
        x = rows.read(0, len(rows)).to(self._device if self.tier == "device" else "cpu")
        return ResidentLoader(x, sampler, batch_size, self.scaled, shift=shift, pin=pin)

    def _resume_at(self) -> tuple[int, int]:
        """Return the epoch in which training resumes, and the number of this rank's samples it has seen."""
        if self.trainer is None:
            return 0, 0
        fit = self.trainer.fit_loop
        epoch, batch = fit.epoch_progress.state_dict()["current"], fit.epoch_loop.batch_progress.state_dict()["current"]
        in_the_middle = epoch["started"] > epoch["processed"]
        return epoch["processed"], batch["processed"] * self.batch_size if in_the_middle else 0

    # Checks.

    def _check_sizes(self) -> None:
        if self.train_size < 1:
            val, test = self._n_drawn("val"), self._n_drawn("test")
            name = "val" if val >= test else "test"
            expected = f"0 to {max(self._file_size - min(val, test) - 1, 0)}"
            raise ConfigError(f"{name}_size", self._wanted[name], "leaves no training rows", expected)
        if self.batch_size > self.train_size:
            raise ConfigError("batch_size", self.batch_size, "larger than the data", f"1 to {self.train_size}")

    def _check_augmentation(self) -> None:
        if len(self.input_shape) == 1 and (self.shift.pixels or self.transforms):
            key = "shift" if self.shift.pixels else "transforms"
            raise ConfigError(key, reason="the rows are vectors, not images", expected="data.input_shape, or none")
        if self.shift.pixels and self.transforms:
            raise ConfigError("shift", self.shift.pixels, "transforms are there already", "0")
        if self.shift.pixels >= (side := min(self.input_shape[-2:])):
            raise ConfigError("shift", self.shift.pixels, "as large as an image", f"0 to {side - 1}")
