"""Dead units: detecting units that never fire, and bringing them back."""

from sparse_ae.dead.auxk import AuxK
from sparse_ae.dead.base import DeadUnits
from sparse_ae.dead.resample import Resample

__all__ = ["AuxK", "DeadUnits", "Resample"]
