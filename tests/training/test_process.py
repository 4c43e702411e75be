"""Settings of a training process."""

from pathlib import Path

import pytest
import torch

from sparse_ae.session.process import left_as_it_was
from sparse_ae.training import process
from sparse_ae.training.process import prefer_onednn, tune_process


@pytest.mark.parametrize(("rows", "inner", "columns"), [(128, 784, 256), (784, 128, 256), (1000, 784, 1280)])
def test_products_of_highest_precision_are_float32(rows: int, inner: int, columns: int) -> None:
    """Whichever library multiplies: products in bfloat16 are wrong by 2e-3 of their norm."""
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(rows, inner, generator=random), torch.randn(inner, columns, generator=random)
    with left_as_it_was():
        tune_process(torch.get_num_threads(), "highest")
        prefer_onednn()
        product = a @ b
    exact = a.double() @ b.double()
    assert (product - exact).norm() < 1e-6 * exact.norm()


@pytest.mark.parametrize(
    ("has_gpu", "vendor", "capability", "is_exact", "precision"),
    [
        (False, "AuthenticAMD", "AVX512", True, "medium"),
        (True, "AuthenticAMD", "AVX512", True, "highest"),
        (False, "GenuineIntel", "AVX512", True, "highest"),
        (False, None, "AVX512", True, "highest"),  # a system without /proc
        (False, "AuthenticAMD", "AVX2", True, "highest"),
        (False, "AuthenticAMD", "AVX512", False, "highest"),
    ],
)
def test_onednn_multiplies_where_it_is_faster(
    has_gpu: bool,
    vendor: str | None,
    capability: str,
    is_exact: bool,
    precision: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpus = tmp_path / "cpuinfo"
    if vendor is not None:
        cpus.write_text(f"vendor_id\t: {vendor}\n")
    monkeypatch.setattr(process, "_CPUS", cpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(process, "_medium_is_float32", lambda: is_exact)
    with left_as_it_was():
        torch.set_float32_matmul_precision("highest")
        prefer_onednn()
        assert torch.get_float32_matmul_precision() == precision


def test_whether_medium_is_float32_is_seen_in_products() -> None:
    """And asking changes nothing."""
    with left_as_it_was():
        torch.set_float32_matmul_precision("high")
        process._medium_is_float32.cache_clear()
        said = process._medium_is_float32()
        assert torch.get_float32_matmul_precision() == "high"
        torch.set_float32_matmul_precision("medium")
        a = torch.randn(128, 784, generator=torch.Generator().manual_seed(0))
        error = (a @ a.T - (a.double() @ a.double().T)).norm() / a.norm() ** 2
    assert said == bool(error < 1e-6)
