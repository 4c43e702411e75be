"""Scale of data: fitted to the training split in one pass, and part of the exported model."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sparse_ae.atomic import write_atomically

log = logging.getLogger(__name__)

Normalization = Literal["none", "unit_interval", "center", "rms", "standardize", "whiten"]

_RIDGE = 1e-5
"""Share of the mean variance that whitening adds to every variance, so that it can be inverted."""


class Moments:
    """Number, range, mean and squared deviations of rows, accumulated in float64 over chunks.

    With ``covariance`` also the products of deviations, ``(D, D)``. Source: Chan, Golub and LeVeque, "Updating formulae
    and a pairwise algorithm for computing sample variances", 1979.

    >>> moments = Moments.of([torch.tensor([[0.0, 2.0]]), torch.tensor([[4.0, 2.0]])])
    >>> moments.mean, moments.variance, moments.low, moments.high
    (tensor([2., 2.], dtype=torch.float64), tensor([4., 0.], dtype=torch.float64), 0.0, 4.0)
    """

    def __init__(self, dim: int, *, covariance: bool = False) -> None:
        self.n = 0
        self._has_covariance = covariance
        self.low, self.high = float("inf"), float("-inf")
        self.mean = torch.zeros(dim, dtype=torch.float64)
        self._deviations = torch.zeros(dim, dim if covariance else 1, dtype=torch.float64)

    @classmethod
    def of(cls, chunks: Iterable[Tensor], *, covariance: bool = False) -> "Moments":
        """Moments of the rows of all ``chunks (B, D)``, of which there is at least one."""
        moments = None
        with nullcontext() if covariance else _one_thread():
            for chunk in chunks:
                if moments is None:
                    moments = cls(chunk.shape[1], covariance=covariance)
                moments.update(chunk)
        assert moments is not None
        return moments

    def update(self, chunk: Tensor) -> None:
        """Add rows ``(B, D)``, finite."""
        low, high = chunk.aminmax(dim=0)
        self.low, self.high = min(self.low, float(low.min())), max(self.high, float(high.max()))
        x, n = chunk.to("cpu", torch.float64) if self._has_covariance else chunk.cpu(), len(chunk)
        low, high = low.to(x), high.to(x)
        # Rounding must not move the mean of equal values, whose variance is 0.
        centre = x.mean(dim=0).clamp(low, high)
        centred = x - centre
        rest = centred.mean(dim=0)
        moved = centre.double() + rest - self.mean
        total, share = self.n + n, n / (self.n + n)
        if self._has_covariance:
            self._deviations += centred.T @ centred + (self.n * share) * torch.outer(moved, moved)
        else:
            # Centred and in units of their range, sums of float32 are as exact as its values, and none overflows.
            span = torch.where(high > low, high - low, 1.0)
            squares = centred.div_(span).square_().sum(dim=0).double() - n * (rest / span).double().square()
            self._deviations[:, 0] += squares * span.double().square() + (self.n * share) * moved.square()
        self.mean += share * moved
        self.n = total

    def save(self, file: Path) -> None:
        """Write them to ``file``, or log that it cannot be written: it is a cache, and only time is lost."""
        extent = torch.tensor([self.n, self.low, self.high, self._has_covariance], dtype=torch.float64)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, save({"extent": extent, "mean": self.mean, "deviations": self._deviations}))
        except OSError as error:
            reason = error.strerror or error
            log.info("%s: cannot be written (%s); the data will be read again", file, reason)

    @classmethod
    def load(cls, file: Path) -> "Moments | None":
        """Moments that were saved in ``file``; None if there are none, or it is damaged."""
        try:
            saved = load_file(file)
            n, low, high, has_covariance = saved["extent"].tolist()
            moments = cls(len(saved["mean"]), covariance=bool(has_covariance))
            moments.low, moments.high = low, high
            moments.n, moments.mean, moments._deviations = int(n), saved["mean"], saved["deviations"]
        except (OSError, KeyError, ValueError, IndexError, SafetensorError):
            return None
        return moments

    @property
    def variance(self) -> Tensor:
        """Variance of each value, ``(D,)``."""
        return (self._deviations.diagonal() if self._has_covariance else self._deviations[:, 0]) / self.n

    @property
    def covariance(self) -> Tensor:
        """Covariance ``(D, D)``."""
        assert self._has_covariance
        return self._deviations / self.n


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sum in one thread: two take longer on a busy machine, as they wait for each other after every operation."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Scale(nn.Module):
    """x_scaled = (x - shift) / unit, then x_scaled @ whitening; ``inverse`` undoes it.

    Errors on this scale, times ``unit``, are in the data's own unit; whitened ones stay whitened. ``shift`` and
    ``unit`` are ``()`` or ``(D,)``, ``whitening`` and its inverse ``colouring`` are ``(D, D)``. What is None
    is skipped; a ``Scale()`` changes nothing.

    >>> scale = Scale(shift=torch.tensor([1.0, 2.0]), unit=torch.tensor(2.0))
    >>> scale(torch.tensor([[3.0, 2.0]])), scale.inverse(scale(torch.tensor([[3.0, 2.0]])))
    (tensor([[1., 0.]]), tensor([[3., 2.]]))
    """

    shift: Tensor | None
    unit: Tensor | None
    whitening: Tensor | None
    colouring: Tensor | None

    def __init__(
        self,
        shift: Tensor | None = None,
        unit: Tensor | None = None,
        whitening: Tensor | None = None,
        colouring: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("shift", shift)
        self.register_buffer("unit", unit)
        self.register_buffer("whitening", whitening)
        self.register_buffer("colouring", colouring)

    @classmethod
    def fit(cls, normalize: Normalization, moments: Moments) -> "Scale":
        """The scale of data with these ``moments``.

        - ``unit_interval``: (x - min) / (max - min), over all values.
        - ``center``: x less the mean row.
        - ``rms``: x / sqrt(mean of x^2), over all values, so that a row has the norm sqrt(D).
        - ``standardize``: (x - mean) / standard deviation, of each of the D values; a constant one only loses its mean.
        - ``whiten``: (x - mean) C^(-1/2), with the covariance C plus 1e-5 times its mean variance (ZCA).
        """
        mean, variance = moments.mean, moments.variance
        if normalize == "none":
            return cls()
        if normalize == "unit_interval":
            low, high = torch.tensor([moments.low, moments.high], dtype=torch.float64)
            return cls(low.float(), (high - low).float())
        if normalize == "center":
            return cls(mean.float())
        if normalize == "rms":
            return cls(unit=(variance + mean.square()).mean().sqrt().float())
        if normalize == "standardize":
            return cls(mean.float(), torch.where(variance > 0, variance, 1.0).sqrt().float())
        eigenvalues, vectors = torch.linalg.eigh(moments.covariance)
        spread = (eigenvalues.clamp_min(0) + _RIDGE * variance.mean()).sqrt()
        whitening, colouring = ((vectors * scaled) @ vectors.T for scaled in (1 / spread, spread))
        return cls(mean.float(), None, whitening.float(), colouring.float())

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., D)`` in the data's own unit to what is trained on."""
        if self.shift is not None:
            x = x - self.shift
        if self.unit is not None:
            x = x / self.unit
        return x if self.whitening is None else x @ self.whitening

    def inverse(self, x: Tensor) -> Tensor:
        """Map ``(..., D)`` back to the data's own unit."""
        x = self.rotate_back(x)
        return x if self.shift is None else x + self.shift

    def rotate_back(self, directions: Tensor) -> Tensor:
        """Map differences of rows ``(..., D)``, such as atoms, back to the data's own unit."""
        if self.colouring is not None:
            directions = directions @ self.colouring
        return directions if self.unit is None else directions * self.unit
