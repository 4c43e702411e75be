"""Fashion-MNIST, downloaded by torchvision."""

from torchvision import datasets

from sparse_ae.data.downloaded import Downloaded


class FashionMNIST(Downloaded):
    """Articles of clothing in MNIST's format (Xiao, Rasul, Vollgraf, arXiv 1708.07747)."""

    dataset = datasets.FashionMNIST
