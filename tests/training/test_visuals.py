"""TensorBoard's pictures: of vectors and in colour, and those of grey images by torchvision's own means."""

import numpy as np
import pytest
import torch
from torchvision.utils import make_grid

from sparse_ae.plotting.pictures import View
from sparse_ae.training.visuals import atoms_grid, pairs_grid


def test_grey_images() -> None:
    x, x_hat, atoms = torch.rand(4, 784), 3 * torch.rand(4, 784) - 1, torch.randn(9, 784)
    view = View.of(x.numpy(), (1, 28, 28))
    expected = make_grid(torch.cat([x, x_hat]).clamp(0, 1).reshape(-1, 1, 28, 28), nrow=4)
    torch.testing.assert_close(pairs_grid(x, x_hat, view), expected)
    expected = make_grid(atoms.reshape(-1, 1, 28, 28), nrow=3, normalize=True, scale_each=True)
    torch.testing.assert_close(atoms_grid(atoms, view), expected)


def test_colour_images() -> None:
    x, atoms = torch.rand(2, 3 * 25 * 24), torch.randn(1, 3 * 25 * 24)
    view = View.of(x.numpy(), (3, 25, 24))
    grid = pairs_grid(x, 1 - x, view)
    torch.testing.assert_close(grid[:, 2:27, 2:26], x[0].reshape(3, 25, 24))  # torchvision's frame of 2 pixels
    torch.testing.assert_close(grid[:, 29:54, 28:52], 1 - x[1].reshape(3, 25, 24))
    torch.testing.assert_close(atoms_grid(atoms, view), 0.5 + 0.5 * (atoms / atoms.abs().max()).reshape(3, 25, 24))


@pytest.mark.parametrize("size", [1, 7, 21])
def test_vectors_are_enlarged_heat_maps_in_the_range_of_the_data(size: int) -> None:
    x = 50 * torch.randn(400, size)
    view = View.of(x.numpy(), (size,))
    high, width = view.pictures(x[:1].numpy()).shape[1:]
    times = -(-24 // width)
    first = pairs_grid(x[:3], x[3:6], view)[0, 2 : 2 + high * times, 2 : 2 + width * times][::times, ::times]
    expected = np.nan_to_num(view.scaled(view.pictures(x[:1].numpy())[0]))
    np.testing.assert_allclose(first, expected, atol=1e-6)
    assert atoms_grid(x[:4], view).isfinite().all()
