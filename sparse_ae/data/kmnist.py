"""Kuzushiji-MNIST, downloaded by torchvision."""

from torchvision import datasets

from sparse_ae.data.downloaded import Downloaded


class KMNIST(Downloaded):
    """Cursive Japanese characters in MNIST's format (Clanuwat et al., arXiv 1812.01718)."""

    dataset = datasets.KMNIST
