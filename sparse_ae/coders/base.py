"""The ``Coder`` protocol, the base class of coders with a dictionary, and the base classes of their learners."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch import Tensor

from sparse_ae.coders.checks import check_data, check_dictionary, check_samples
from sparse_ae.coders.module import CoderModule
from sparse_ae.config.errors import ConfigError

if TYPE_CHECKING:  # it takes seconds to import
    from sparse_ae.data.module import DataModule


class Coder(Protocol):
    """Sparse code of data: a trained autoencoder, PCA, OMP on a dictionary.

    ``x (..., D)`` is any real data in the user's own units, ``z (..., N)`` its codes, atoms are ``(N, D)``.
    """

    def encode(self, x: Tensor) -> Tensor:
        """Encode data ``(..., D)`` as codes ``(..., N)``."""

    def decode(self, z: Tensor) -> Tensor:
        """Decode codes ``(..., N)`` to reconstructions ``(..., D)``."""

    @property
    def dictionary(self) -> Tensor:
        """Atoms ``(N, D)``."""


class Learner(ABC):
    """Method that learns a coder from data."""

    needs_rows: ClassVar[bool] = True
    """False if one row tells as much as all: their type and device."""

    @abstractmethod
    def fit(self, x: Tensor) -> "DictionaryCoder":
        """Learn a coder from ``x (B, D)``. Raises ``UserError`` if x is empty or not finite."""

    def check(self, samples: int, dim: int) -> None:  # noqa: B027, most take any
        """Raise ``ConfigError`` if data of shape ``(samples, dim)`` cannot be fitted. Needs no data."""

    def attach(self, data: "DataModule") -> None:  # noqa: B027, most learn from the rows alone
        """Take from ``data`` what its rows do not say. Raises ``ConfigError`` if it does not say so either."""

    @property
    def units(self) -> int | None:
        """Number of atoms of which no option decides; else None."""
        return None


class DictionaryCoder(CoderModule, Learner):
    """x_hat = z @ dictionary + mean. Subclasses say how x becomes z. A ``Coder``.

    ``dictionary (N, D)`` may have atoms of any norm; ``mean (D,)`` defaults to 0. As a learner it is fitted already:
    ``fit`` returns the coder itself. Raises ``UserError`` unless dictionary and mean are finite and of the same D, and
    no atom is zero.
    """

    needs_rows = False
    atoms: Tensor
    mean: Tensor

    def __init__(self, dictionary: Tensor, mean: Tensor | None = None) -> None:
        check_dictionary(dictionary)
        super().__init__(input_dim=dictionary.shape[1], latent_dim=len(dictionary))
        mean = dictionary.new_zeros(dictionary.shape[1]) if mean is None else mean
        check_data(mean, dictionary, "mean")
        self.register_buffer("atoms", dictionary.detach())
        self.register_buffer("mean", mean.detach())

    def encode_rows(self, x: Tensor) -> Tensor:
        return self.encode_centred(x - self.mean)

    @abstractmethod
    def encode_centred(self, x: Tensor) -> Tensor:
        """Encode data less the mean, ``(B, D)``, as codes ``(B, N)``. Unchecked."""

    def decode_rows(self, z: Tensor) -> Tensor:
        return z @ self.atoms + self.mean

    @property
    def dictionary(self) -> Tensor:
        return self.scale.rotate_back(self.atoms)

    @property
    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Constructor arguments other than tensors, by name, as plain values."""

    @property
    def units(self) -> int:
        return len(self.dictionary)

    def check(self, samples: int, dim: int) -> None:
        """Raise ``ConfigError`` unless atoms have ``dim`` values."""
        if dim != self.input_dim:
            reason = f"its atoms have {self.input_dim} values, and the data {dim}"
            raise ConfigError("", reason=reason, expected="the same number")

    def fit(self, x: Tensor) -> "DictionaryCoder":
        """Return the coder itself. Raises ``UserError`` unless ``x (B, D)`` is data that it can encode."""
        check_samples(x)
        check_data(x, self.atoms)
        return self


class IterativeLearner(Learner):
    """Method that learns in epochs and can resume after any of them, with the same result."""

    epochs: int
    """Number of epochs."""
    state_type: ClassVar[Callable[..., Any]]
    """NamedTuple of tensors and numbers: the state after an epoch."""

    @abstractmethod
    def fit(
        self, x: Tensor, state: Any | None = None, callback: Callable[[Any], None] | None = None
    ) -> DictionaryCoder:
        """Learn from ``x (B, D)``, resuming from ``state`` if given. ``callback`` receives the state of each epoch."""

    @staticmethod
    @abstractmethod
    def progress(state: Any) -> tuple[int, dict[str, float]]:
        """Return the number of epochs done, and values to plot against it, by name."""
