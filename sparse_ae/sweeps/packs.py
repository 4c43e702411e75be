"""Division of jobs into packs: those of one program, which train together in a process."""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PositiveInt

from sparse_ae.config.build import check_arguments
from sparse_ae.sweeps.process import JobSpec


def _as_written(pack: Any) -> Any:
    """``pack`` as it stands in a YAML, which reads off as false."""
    return {False: "off", True: "on"}[pack] if isinstance(pack, bool) else pack


PackSize = Annotated[Literal["auto", "off"] | PositiveInt, BeforeValidator(_as_written)]
"""Largest number of jobs of a pack. ``off``: each alone; ``auto``: all that fit, where packs are faster."""

_SMALL = 2**19
"""Parameters up to which packs are faster on a processor (experiments/speed)."""


def pack_size(pack: Any) -> PackSize:
    """Return ``pack`` as what it should be. Raises ``ConfigError`` if it is none."""

    def option(pack: PackSize) -> None: ...

    size: PackSize = check_arguments(option, {"pack": pack}, "hydra.launcher")["pack"]
    return size


def largest_pack(job: JobSpec, size: PackSize, *, on_gpu: bool, memory: float | None) -> int:
    """Return how many jobs such as ``job`` may train together, within ``memory`` bytes; None if that is not known."""
    if job.packable is None or size == "off":
        return 1
    if size == "auto" and not on_gpu and job.packable.n_parameters > _SMALL:
        return 1
    fit = math.inf if memory is None else max(1, memory // job.packable.n_bytes)
    asked = math.inf if size == "auto" else size
    return int(min(fit, asked, 2**31))


def packs(jobs: Sequence[JobSpec], largest: Callable[[JobSpec], int], at_a_time: int) -> list[list[JobSpec]]:
    """Divide ``jobs`` into packs of one program each, of up to its ``largest`` and of about equal size.

    There are as many packs as can be trained ``at_a_time``, if there are enough jobs of a program.
    """
    programs: dict[str, list[JobSpec]] = {}
    for job in jobs:
        programs.setdefault(job.packable.program if job.packable else str(job.folder), []).append(job)
    found = []
    for same in programs.values():
        share = round(at_a_time * len(same) / len(jobs))
        count = min(len(same), max(math.ceil(len(same) / largest(same[0])), share))
        found += [same[i * len(same) // count : (i + 1) * len(same) // count] for i in range(count)]
    return found


def described(divided: Sequence[Sequence[JobSpec]]) -> str:
    """Describe packs by the parts of their runs' names that tell them apart; empty if each job is alone.

    A pack is named by the parts that its runs have in common, but for those of all packs.

    >>> from pathlib import Path
    >>> names = ["l1-w0.1-n128-s1-0a", "l1-w0.2-n128-s1-0b", "kl-r0.1-n128-s1-0c", "kl-r0.2-n128-s1-0d", "topk-s1-0e"]
    >>> a, b, c, d, e = [JobSpec("", {}, Path(name), {}) for name in names]
    >>> described([[a, b], [c, d], [e]])
    '5 runs in 2 packs (l1: 2, kl: 2) and 1 alone (topk-s1-0e)'
    """
    together = [pack for pack in divided if len(pack) > 1]
    alone = [pack[0].folder.name for pack in divided if len(pack) == 1]
    if not together:
        return ""
    common = [reduce(_common, (job.folder.name.split("-") for job in pack)) for pack in together]
    of_all = reduce(_common, common) if len(common) > 1 else []
    own = [" ".join(part for part in parts if part not in of_all) for parts in common]
    sizes = [f"{name}: {len(pack)}" if name else f"{len(pack)}" for name, pack in zip(own, together, strict=True)]
    told = f"{sum(map(len, divided))} runs in {len(together)} pack{'s' if len(together) > 1 else ''} ({_few(sizes)})"
    return f"{told} and {len(alone)} alone ({_few(alone)})" if alone else told


def _common(parts: list[str], others: list[str]) -> list[str]:
    return [part for part in parts if part in others]


def _few(names: Sequence[str]) -> str:
    return ", ".join([*names[:4], *(["..."] if len(names) > 4 else [])])
