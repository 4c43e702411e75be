"""What classical coders share: a dictionary and a mean, how one is saved, and what learns one."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from sparse_ae.coders.checks import check_data, check_dictionary


class Learner(ABC):
    """What ``fit`` makes of data."""

    @abstractmethod
    def fit(self, x: Tensor) -> "DictionaryCoder":
        """The coder learned from ``x (B, D)``."""

    def check(self, samples: int, dim: int) -> None:  # noqa: B027, most take any
        """Raises ``ValueError`` if it cannot be fitted to data of such a size ``(B, D)``, before any is there."""


class DictionaryCoder(nn.Module, Learner):
    """x_hat = z @ dictionary + mean; how x becomes z is what coders differ in. A ``Coder``.

    ``dictionary (N, D)`` is any; ``mean (D,)`` is 0 where not given. Its own learner: ``fit`` leaves it as it is.
    Raises ``ValueError`` unless both are finite and fit each other, and no atom is zero.
    """

    dictionary: Tensor
    mean: Tensor

    def __init__(self, dictionary: Tensor, mean: Tensor | None = None) -> None:
        super().__init__()
        check_dictionary(dictionary)
        mean = dictionary.new_zeros(dictionary.shape[1]) if mean is None else mean
        check_data(mean[None], dictionary, "mean")
        self.register_buffer("dictionary", dictionary.detach())
        self.register_buffer("mean", mean.detach())

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Data ``(B, D)`` to codes ``(B, N)``."""

    def decode(self, z: Tensor) -> Tensor:
        """Codes ``(B, N)`` to reconstructions ``(B, D)``."""
        return z @ self.dictionary + self.mean

    @property
    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """What beside its tensors it was made with: plain values by the constructor's names."""

    def check(self, samples: int, dim: int) -> None:
        """Raises ``ValueError`` unless atoms have ``dim`` values."""
        if dim != self.dictionary.shape[1]:
            raise ValueError(f"its atoms have {self.dictionary.shape[1]} values, and the data {dim} (allowed: as many)")

    def fit(self, x: Tensor) -> "DictionaryCoder":
        """Itself. Raises ``ValueError`` unless ``x`` is a finite ``(B, D)``."""
        check_data(x, self.dictionary)
        return self


class IterativeLearner(Learner):
    """Learns in epochs, and can go on after any of them as if it had not stopped."""

    epochs: int
    state_type: ClassVar[Callable[..., Any]]
    """The NamedTuple of tensors and numbers that is the state after an epoch."""

    @abstractmethod
    def fit(
        self, x: Tensor, state: Any | None = None, callback: Callable[[Any], None] | None = None
    ) -> DictionaryCoder:
        """Fit to ``x (B, D)``, from ``state`` on if given; ``callback`` is told the state after each epoch."""

    @staticmethod
    @abstractmethod
    def progress(state: Any) -> tuple[int, dict[str, float]]:
        """Epochs done, and what is worth a curve, by name."""
