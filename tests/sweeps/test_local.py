"""How a machine is divided between jobs."""

import pytest

from sparse_ae.sweeps.local import Share, share, visible_gpus

GB = 2.0**30


@pytest.mark.parametrize(
    ("todo", "n_jobs", "jobs_per_gpu", "gpus", "cores", "expected"),
    [
        (10, None, 1, [], 2, Share(2, 1, [])),
        (10, None, 1, [], 16, Share(10, 1, [])),
        (3, None, 1, [], 16, Share(3, 5, [])),  # not more jobs than there are
        (10, 4, 1, [], 16, Share(4, 4, [])),
        (10, 4, 1, [], 2, Share(4, 1, [])),  # as asked for
        (10, None, 1, ["0", "1"], 16, Share(2, 8, ["0", "1"])),
        (10, None, 2, ["0", "1"], 16, Share(4, 4, ["0", "1", "0", "1"])),  # in turn
        (3, None, 2, ["0", "1"], 16, Share(3, 5, ["0", "1", "0"])),
        (1, None, 1, ["GPU-5f"], 16, Share(1, 16, ["GPU-5f"])),
    ],
)
def test_share(todo: int, n_jobs: int | None, jobs_per_gpu: int, gpus: list[str], cores: int, expected: Share) -> None:
    found = share(todo, n_jobs=n_jobs, jobs_per_gpu=jobs_per_gpu, threads=None, gpus=gpus, cores=cores, memory=64 * GB)
    assert found == expected


@pytest.mark.parametrize(
    ("threads", "n_jobs", "expected"),
    [(2, None, Share(8, 2, [])), (16, None, Share(1, 16, [])), (32, None, Share(1, 32, [])), (4, 8, Share(8, 4, []))],
)
def test_threads_that_are_asked_for_leave_less_room(threads: int, n_jobs: int | None, expected: Share) -> None:
    found = share(10, n_jobs=n_jobs, jobs_per_gpu=1, threads=threads, gpus=[], cores=16, memory=64 * GB)
    assert found == expected


def test_jobs_fit_into_memory() -> None:
    some = {"n_jobs": None, "jobs_per_gpu": 1, "threads": None, "gpus": [], "cores": 32}
    divided = share(64, **some, memory=6 * GB)
    assert divided == Share(4, 8, [])
    assert share(64, **some, memory=0).jobs == 1


def test_gpus_are_named_as_the_environment_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert visible_gpus() == ["3", "5"]
