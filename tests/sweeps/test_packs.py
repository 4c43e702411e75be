"""Which jobs train together."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_ae.packing.packable import Packable
from sparse_ae.sweeps.local import free_gpu_memory
from sparse_ae.sweeps.packs import largest_pack, packs
from sparse_ae.sweeps.process import JobSpec


def job(program: str, number: int = 0, *, n_parameters: int = 1000, n_bytes: int = 10) -> JobSpec:
    config: dict[str, Any] = {}
    packable = Packable(program, n_parameters, n_bytes) if program else None
    return JobSpec("", config, Path(f"{program}{number}"), {}, packable=packable)


def sizes(jobs: list[JobSpec], largest: int, at_a_time: int) -> list[int]:
    return [len(pack) for pack in packs(jobs, lambda _: largest, at_a_time)]


def test_packs_are_of_one_program_and_keep_the_machine_busy() -> None:
    same = [job("a", i) for i in range(10)]
    assert sizes(same, largest=10, at_a_time=2) == [5, 5]
    assert sizes(same, largest=4, at_a_time=2) == [3, 3, 4]
    assert sizes(same, largest=1, at_a_time=2) == [1] * 10
    mixed = [job("a"), job("", 1), job("b"), job("a", 1), job("", 2)]
    assert packs(mixed, lambda _: 8, 1) == [[mixed[0], mixed[3]], [mixed[1]], [mixed[2]], [mixed[4]]]


@given(st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=1, max_size=40), st.integers(1, 9), st.integers(1, 9))
def test_every_job_is_in_one_pack(programs: list[str], largest: int, at_a_time: int) -> None:
    jobs = [job(program, number) for number, program in enumerate(programs)]
    divided = packs(jobs, lambda _: largest, at_a_time)
    assert sorted(each.folder for pack in divided for each in pack) == sorted(each.folder for each in jobs)
    for pack in divided:
        assert 1 <= len(pack) <= largest
        assert len({each.packable for each in pack}) == 1
        assert len(pack) == 1 or pack[0].packable
    for program in {"a", "b", "c"} & set(programs):
        own = [len(pack) for pack in divided if pack[0].packable and pack[0].packable.program == program]
        assert max(own) - min(own) <= 1


def test_memory_limits_packs() -> None:
    limits = [largest_pack(job("a"), "auto", on_gpu=True, memory=memory) for memory in (0, 35, 1e30, None)]
    assert limits == [1, 3, 2**31, 2**31]
    assert largest_pack(job("a"), 2, on_gpu=True, memory=35) == 2


def test_processors_pack_small_models_and_what_is_asked_for() -> None:
    small, large = job("a", n_parameters=10**5), job("a", n_parameters=10**6)
    auto = [largest_pack(each, "auto", on_gpu=on_gpu, memory=50) for each in (small, large) for on_gpu in (False, True)]
    assert auto == [5, 5, 1, 5]
    assert [largest_pack(large, size, on_gpu=False, memory=1e30) for size in ("off", 7)] == [1, 7]
    assert largest_pack(job(""), 7, on_gpu=True, memory=1e30) == 1


@pytest.mark.parametrize(
    ("script", "expected"),
    [("echo 1024; echo 512", 512 * 2**20), ("echo '[N/A]'", None), ("exit 9", None), (None, None)],
    ids=["two", "unknown", "fails", "missing"],
)
def test_free_memory_is_what_the_driver_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, expected: float | None
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin" if script else str(tmp_path))
    if script:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
    assert free_gpu_memory(["0", "1"]) == expected
