"""Targets: control of a coefficient in training, towards a sparsity that was asked for or along a path."""

from sparse_ae.targets.base import Target, Verdict
from sparse_ae.targets.coefficient_path import CoefficientPath
from sparse_ae.targets.sparsity_target import SparsityTarget

__all__ = ["CoefficientPath", "SparsityTarget", "Target", "Verdict"]
