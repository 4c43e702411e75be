"""Whitened patches of photographs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from sklearn.datasets import load_sample_images
from torch import Tensor

from sparse_ae.config.checked import checked, with_options_of
from sparse_ae.config.errors import ConfigError
from sparse_ae.data.content import digest
from sparse_ae.data.files import picture_files
from sparse_ae.data.made import Made, Writer
from sparse_ae.data.module import DataModule
from sparse_ae.data.pictures import read_picture
from sparse_ae.data.splits import Size, Split, n_rows

Whitening = Literal["olshausen", "zca", "none"]

_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_CELL = 2
"""Side of a cell of a photograph, in sides of a patch."""
_HELD_OUT = 0.1
"""Share of the cells for validation, and for the test; the others are for training."""
_LEAST = 6
"""Least side of a photograph, in sides of a patch."""
_CUTOFF = 0.4
"""f_0 of the whitening filter in cycles per pixel: 200 cycles in 512 pixels, as in its source."""
_MARGIN = 32
"""Pixels mirrored around a photograph before it is filtered."""
_RIDGE = 1e-3
"""Share of the mean variance that ZCA adds to every variance: the finest detail of a photograph is noise."""


@with_options_of(DataModule)
class NaturalPatches(Made):
    """Square grey patches of photographs, whitened, without their mean, of unit variance over all training patches.

    Each photograph is cut into square cells, twice as wide as a patch, of which ``seed`` chooses a tenth for validation
    and a tenth for the test. A patch lies in cells of one split and reaches into none of another, so that no pixel is
    in two splits. Every photograph gives as many patches, at different places.

    - ``path``: a folder of photographs; None for the two that scikit-learn ships.
    - ``size``: side of a patch in pixels.
    - ``n``: number of training patches; ``val_size`` and ``test_size`` are numbers or shares of it.
    - ``whitening``: ``olshausen`` filters the photographs with R(f) = f exp(-(f/f_0)^4), f_0 = 0.4 cycles per pixel,
      in [0, 0.707]; ``zca`` maps patches by C^(-1/2), C the covariance of the training patches plus 1e-3 times its
      mean variance; ``none`` leaves them.
    - ``content``: digest of the photographs in ``path``; only the command line sets it.

    Further options are those of ``DataModule``. Source: Olshausen and Field, "Emergence of simple-cell receptive field
    properties by learning a sparse code for natural images", Nature 381, 1996.
    """

    kind = "natural_patches"
    is_of_pictures = True

    @checked
    def __init__(
        self,
        *,
        path: str | None = None,
        content: str | None = None,
        size: Annotated[int, Field(ge=2)] = 12,
        n: PositiveInt = 50_000,
        whitening: Whitening = "olshausen",
        test_size: Size = 0.1,
        val_size: Size = 0.1,
        **options: Any,
    ) -> None:
        self.path, self.content = path, content
        self.size, self.n, self.whitening = size, n, whitening
        self.input_shape = (1, size, size)
        self.test_size = test_size
        self._files = [Path(file) for file in load_sample_images().filenames] if path is None else picture_files(path)
        super().__init__(val_size=val_size, **options)

    def planned(self, name: Split) -> int:
        return self.n if name == "train" else n_rows(self._wanted[name], self.n)

    def recipe(self) -> Mapping[str, Any]:
        return {
            "photographs": digest(self._files),
            "size": self.size,
            "whitening": self.whitening,
            "patches": [self.planned(name) for name in _SPLITS],
            "seed": self.seed,
        }

    def make(self, write: Writer) -> list[str]:
        """Cut out all patches and whiten them. Raises ``ConfigError`` for photographs that are too few or too small."""
        generator = torch.Generator().manual_seed(self.seed)
        parts: dict[Split, list[Tensor]] = {name: [] for name in _SPLITS}
        for number, file in enumerate(self._files):
            photograph = self._read(file)
            split_of = _split_of(photograph.shape, _CELL * self.size, generator)
            for i, name in enumerate(_SPLITS):
                count = len(range(number, self.planned(name), len(self._files)))
                parts[name].append(self._cut(photograph, split_of == i, count, file, generator))
        patches = {name: torch.cat(own).flatten(1) for name, own in parts.items()}
        patches = {name: x - x.mean(dim=1, keepdim=True) for name, x in patches.items()}
        if self.whitening == "zca":
            whitening = _zca(patches["train"])
            patches = {name: x @ whitening for name, x in patches.items()}
        spread = patches["train"].square().mean().sqrt()
        if spread == 0:
            raise ConfigError("data.path", self.path, "photographs of one grey", "some contrast")
        for name, x in patches.items():
            order = torch.randperm(len(x), generator=generator)  # of photograph after photograph no more
            write(name, (x[order] / spread).reshape(-1, *self.input_shape).numpy())
        return []

    def origin(self, name: Split) -> str:
        return super().origin(name) if self.path is None else "data.path"

    @property
    def row_bytes(self) -> int:
        return self.input_dim * torch.float32.itemsize

    def describe(self) -> str:
        place = (
            "2 photographs of scikit-learn" if self.path is None else f"{self.path} ({len(self._files)} photographs)"
        )
        sizes = ", ".join(f"{n:,} {name}" for name, n in self.sizes.items())
        return f"data: patches of {self.size} x {self.size} from {place}, whitening={self.whitening}; {sizes}"

    def _read(self, file: Path) -> Tensor:
        """Read a photograph ``(H, W)``, filtered for ``olshausen``."""
        pixels = read_picture(file, channels=1)
        if pixels is None:
            raise ConfigError("data.path", self.path, f"{file.name} cannot be decoded", "photographs")
        photograph = torch.from_numpy(pixels[0]).float() / 255
        height, width = photograph.shape
        if min(height, width) < (least := _LEAST * self.size):
            reason = f"{file.name} has {height} x {width} pixels"
            raise ConfigError("data.path", self.path, reason, f"at least {least} x {least}")
        return _olshausen(photograph) if self.whitening == "olshausen" else photograph

    def _cut(self, photograph: Tensor, own: Tensor, count: int, file: Path, generator: torch.Generator) -> Tensor:
        """Draw ``count`` different patches ``(count, size, size)`` that lie in the pixels ``own (H, W)`` of a split."""
        outside = F.max_pool2d((~own)[None].float(), self.size, stride=1)[0]
        rows, columns = (outside == 0).nonzero(as_tuple=True)
        if count > len(rows):
            reason = f"{count:,} different patches are wanted of a part of {file.name} that has {len(rows):,}"
            raise ConfigError("data.n", self.n, reason, "fewer patches, or further photographs")
        drawn = torch.randperm(len(rows), generator=generator)[:count]
        patches = photograph.unfold(0, self.size, 1).unfold(1, self.size, 1)
        return patches[rows[drawn], columns[drawn]]


def _split_of(shape: torch.Size, side: int, generator: torch.Generator) -> Tensor:
    """Number of the split of each pixel of a photograph, ``(H, W)``, from a draw of cells of ``side`` pixels."""
    height, width = (-(-pixels // side) for pixels in shape)
    cells = torch.zeros(height * width, dtype=torch.int64)
    held_out = max(1, round(_HELD_OUT * len(cells)))
    drawn = torch.randperm(len(cells), generator=generator)
    cells[drawn[:held_out]] = 1
    cells[drawn[held_out : 2 * held_out]] = 2
    row, column = (torch.arange(pixels) // side for pixels in shape)
    return cells.view(height, width)[row][:, column]


def _olshausen(photograph: Tensor) -> Tensor:
    """Filter ``(H, W)`` with f exp(-(f/f_0)^4), f in cycles per pixel."""
    margin = min(_MARGIN, *(side - 1 for side in photograph.shape))
    mirrored = F.pad(photograph[None, None], [margin] * 4, mode="reflect")[0, 0]
    height, width = mirrored.shape
    f = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
    filtered = torch.fft.irfft2(torch.fft.rfft2(mirrored) * f * (-((f / _CUTOFF) ** 4)).exp(), s=mirrored.shape)
    inside: Tensor = filtered[margin : height - margin, margin : width - margin]
    return inside


def _zca(x: Tensor) -> Tensor:
    """C^(-1/2) of rows ``(B, D)`` whose mean is removed, with a ridge, ``(D, D)``."""
    x = x.double()
    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    ridge = _RIDGE * values.mean()
    whitening: Tensor = (vectors * (values.clamp_min(0) + ridge).rsqrt()) @ vectors.T
    return whitening.float()
