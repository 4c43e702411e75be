"""Least squares fit of Gabor functions to pictures, all of them at once."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

_CENTRES, _ORIENTATIONS, _FREQUENCIES, _WIDTHS = 5, 12, 6, 4
"""Grid of first guesses: centres along each side, orientations, frequencies, widths of a round envelope."""
_GUESSES = 6
"""Number of best guesses of a picture that are refined."""
_STEPS, _MORE_STEPS = 40, 160
"""Steps of Adam from all guesses, then from the best of them."""
_RATE = 0.05
_NARROWEST = 0.5
"""Least standard deviation of an envelope in pixels."""
_HALF_HEIGHT = math.sqrt(math.log(2) / 2) / math.pi


class Gabors(NamedTuple):
    """Gabor functions fitted to n pictures, g = A exp(-u^2 / 2 s_u^2 - v^2 / 2 s_v^2) cos(2 pi f u + phase).

    u runs across the stripes and v along them, from the centre.
    """

    r2: Tensor
    """Share of the picture's sum of squares that the function explains, ``(n,)``; 0 for an empty picture."""
    fit: Tensor
    """The functions, ``(n, H, W)``."""
    y: Tensor
    """Row of the centre, ``(n,)``, from 0."""
    x: Tensor
    """Column of the centre, ``(n,)``."""
    orientation: Tensor
    """Direction of the stripes in [0, pi), ``(n,)``: 0 is horizontal, pi/4 rises to the right."""
    frequency: Tensor
    """Cycles per pixel f, ``(n,)``, at most 0.5."""
    across: Tensor
    """Standard deviation s_u of the envelope across the stripes in pixels, ``(n,)``."""
    along: Tensor
    """Standard deviation s_v along the stripes, ``(n,)``."""

    @property
    def bandwidth(self) -> Tensor:
        """Width of the spectrum at half height in octaves, ``(n,)``; infinite for one that includes the frequency 0.

        log2((f + h) / (f - h)), h = sqrt(ln 2 / 2) / (pi s_u).
        """
        half = _HALF_HEIGHT / self.across
        return torch.where(
            self.frequency > half, torch.log2((self.frequency + half) / (self.frequency - half)), torch.inf
        )


def fit_gabors(pictures: Tensor) -> Gabors:
    """Fit a Gabor function to each picture ``(n, H, W)``, by its sum of squares.

    Amplitude and phase have a closed form given the other six parameters. The best of a grid of these are refined by
    Adam. Frequencies stay below 0.5 cycles per pixel, envelopes between half a pixel and the longer side.
    """
    n, *shape = pictures.shape
    flat = pictures.double().flatten(1)
    size = flat.norm(dim=1, keepdim=True)
    flat = (flat / size.where(size > 0, 1)).float()
    guesses = _grid(shape)
    scores = _explained(flat, *_pair(guesses, shape))
    start = guesses[scores.topk(_GUESSES, dim=1).indices]  # (n, K, 6)
    rough = _refine(flat.repeat_interleave(_GUESSES, dim=0), start.flatten(0, 1), shape, _STEPS)
    best = _r2(flat.repeat_interleave(_GUESSES, dim=0), rough, shape).view(n, _GUESSES).argmax(dim=1)
    found = _refine(flat, rough.view(n, _GUESSES, 6)[torch.arange(n), best], shape, _MORE_STEPS)
    return _described(flat, size, found, shape)


def _grid(shape: list[int]) -> Tensor:
    """First guesses ``(M, 6)``: y, x, angle of u, log f, log s_u, log s_v."""
    height, width = shape
    long = max(shape)
    parts = torch.meshgrid(
        torch.linspace(0, height - 1, _CENTRES + 2)[1:-1],
        torch.linspace(0, width - 1, _CENTRES + 2)[1:-1],
        torch.arange(_ORIENTATIONS) * (torch.pi / _ORIENTATIONS),
        torch.linspace(math.log(0.5 / long), math.log(0.45), _FREQUENCIES),
        torch.linspace(math.log(long / 12), math.log(long / 3), _WIDTHS),
        indexing="ij",
    )
    grid = torch.stack([part.flatten() for part in parts], dim=1)
    return torch.cat([grid, grid[:, 4:]], dim=1)


def _pair(parameters: Tensor, shape: list[int]) -> tuple[Tensor, Tensor]:
    """Envelope times cosine, and envelope times sine, of ``(..., 6)``: each ``(..., H W)``."""
    rows, columns = torch.meshgrid(torch.arange(shape[0]), torch.arange(shape[1]), indexing="ij")
    y, x, angle, frequency, across, along = parameters[..., None].unbind(dim=-2)
    down, right = rows.flatten() - y, columns.flatten() - x
    u = angle.cos() * right + angle.sin() * down
    v = angle.cos() * down - angle.sin() * right
    envelope = torch.exp(-0.5 * ((u / across.exp()).square() + (v / along.exp()).square()))
    wave = 2 * torch.pi * frequency.exp() * u
    return envelope * wave.cos(), envelope * wave.sin()


def _orthonormal(even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal basis of the two functions, in the order of their size where one all but vanishes."""
    even = even / even.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    odd = odd - (odd * even).sum(dim=-1, keepdim=True) * even
    return even, odd / odd.norm(dim=-1, keepdim=True).clamp_min(1e-3)


def _explained(flat: Tensor, even: Tensor, odd: Tensor) -> Tensor:
    """R^2 of every picture ``(n, D)`` with every pair ``(M, D)``, ``(n, M)``."""
    first, second = _orthonormal(even, odd)
    return (flat @ first.T).square() + (flat @ second.T).square()


def _r2(flat: Tensor, parameters: Tensor, shape: list[int]) -> Tensor:
    """R^2 of each picture ``(n, D)`` of norm 1 with its own parameters ``(n, 6)``, ``(n,)``."""
    first, second = _orthonormal(*_pair(parameters, shape))
    return (flat * first).sum(dim=1).square() + (flat * second).sum(dim=1).square()


def _refine(flat: Tensor, start: Tensor, shape: list[int], steps: int) -> Tensor:
    """Climb R^2 of each picture ``(n, D)`` from ``start (n, 6)`` with Adam, whose rate falls to 0."""
    long = math.log(max(shape))
    low = torch.tensor([-1.0, -1.0, -torch.inf, -long - 2, math.log(_NARROWEST), math.log(_NARROWEST)])
    high = torch.tensor([float(shape[0]), float(shape[1]), torch.inf, math.log(0.5), long, long])
    unit = torch.tensor([max(shape) / 6, max(shape) / 6, 1.0, 1.0, 1.0, 1.0])  # of a step
    with torch.inference_mode(False), torch.enable_grad():
        found = (start / unit).clone().requires_grad_()
        optimizer = torch.optim.Adam([found], lr=_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps if len(flat) else 0):
            optimizer.zero_grad()
            (-_r2(flat, found * unit, shape).sum()).backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                found.copy_((found * unit).clamp(low, high) / unit)
    return found.detach() * unit


def _described(flat: Tensor, size: Tensor, parameters: Tensor, shape: list[int]) -> Gabors:
    first, second = _orthonormal(*_pair(parameters, shape))
    fit = sum((flat * part).sum(dim=1, keepdim=True) * part for part in (first, second)) * size
    y, x, angle, frequency, across, along = parameters.unbind(dim=1)
    stripes = (torch.pi / 2 - angle).remainder(torch.pi)  # rows count downwards
    return Gabors(
        _r2(flat, parameters, shape).clamp(0, 1),
        fit.view(-1, *shape).float(),
        y,
        x,
        stripes,
        frequency.exp(),
        across.exp(),
        along.exp(),
    )
