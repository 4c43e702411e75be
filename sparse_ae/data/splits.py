"""Division of the rows of a file into train, val and test: sizes, and a draw by seed that keeps groups whole."""

from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field, NonNegativeInt
from torch import Tensor

from sparse_ae.config.errors import ConfigError

Split = Literal["train", "val", "test"]

Size = NonNegativeInt | Annotated[float, Field(gt=0, lt=1)]
"""Number of rows, or their share of the file."""


class Parts(NamedTuple):
    """Rows of one file by split; a part that is not drawn from this file is empty."""

    train: Tensor
    """Rows ``(n_train,)``, int64, as drawn."""
    val: Tensor
    """Rows ``(n_val,)``."""
    test: Tensor
    """Rows ``(n_test,)``."""


def n_rows(size: Size, of: int) -> int:
    """Number of rows that ``size`` asks for, of a file of ``of``; a share is at least one row.

    >>> n_rows(5, of=100), n_rows(0.1, of=104)
    (5, 10)
    """
    return max(1, round(size * of)) if isinstance(size, float) else size


def draw(
    n: int, val: int, test: int, seed: int, groups: Tensor | None = None, groups_option: str = "split_by"
) -> Parts:
    """Draw ``test``, then ``val`` rows of ``n``; the others are train. A function of the arguments alone.

    Rows with the same value in ``groups (n,)`` stay together: whole groups are drawn until a split has at least its
    number of rows. Raises ``ConfigError`` about ``groups_option`` if that leaves nothing to train on.

    >>> parts = draw(6, val=1, test=1, seed=0, groups=torch.tensor([7, 7, 8, 8, 9, 9]))
    >>> [len(part) for part in parts]
    [2, 2, 2]
    """
    generator = torch.Generator().manual_seed(seed)
    if groups is None:
        order = torch.randperm(n, generator=generator)
        return Parts(order[test + val :], order[test : test + val], order[:test])
    names, member = groups.unique(return_inverse=True)
    drawn = torch.randperm(len(names), generator=generator)
    rank = torch.empty_like(drawn).scatter_(0, drawn, torch.arange(len(drawn)))
    order = rank[member].argsort(stable=True)  # the rows, group after group
    ends = member.bincount()[drawn].cumsum(0)
    to_test = _whole_groups(ends, test)
    to_val = _whole_groups(ends, to_test + val) if val else to_test
    if to_val == n:
        reason = f"{len(names)} groups that stay whole leave no training rows"
        raise ConfigError(groups_option, reason=reason, expected="more groups, or a smaller val_size and test_size")
    return Parts(order[to_val:], order[to_test:to_val], order[:to_test])


def _whole_groups(ends: Tensor, rows: int) -> int:
    """Smallest number of rows, at least ``rows``, at which a group ends."""
    return int(ends[torch.searchsorted(ends, rows).clamp_max(len(ends) - 1)]) if rows else 0
