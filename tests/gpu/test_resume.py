"""Exact resume on a GPU: with deterministic algorithms a resumed run ends as the one that was left alone."""

from pathlib import Path

import pytest

from tests.helpers import train_run
from tests.scenarios.crashes import EVERY_STEP, SHORT, assert_resumes_after_kill, assert_resumes_after_power_cut
from tests.scenarios.test_resume import VARIANTS

pytestmark = pytest.mark.gpu

DETERMINISTIC = "trainer.deterministic=true"
CHOSEN = (
    "plain",
    "linear, projected atoms, AdamW",
    "mixed precision, SGD",
    "a target, thresholds",
    "a running threshold, dead units",
    "dead units re-initialised",
    "a path of coefficients",
)


@pytest.mark.parametrize("variant", CHOSEN)
def test_resume_after_power_cut(tmp_path: Path, on_device: list[str], variant: str) -> None:
    """In the middle of an epoch."""
    overrides = [*SHORT, EVERY_STEP, DETERMINISTIC, *on_device, *VARIANTS[variant]]
    assert_resumes_after_power_cut(train_run(tmp_path / "whole", *overrides), 13, *overrides)


@pytest.mark.usefixtures("cuda")
def test_resume_with_a_scaler_of_gradients(tmp_path: Path, on_device: list[str]) -> None:
    # A scaler may leave out the first step, of which a scheduler warns.
    overrides = [*SHORT, EVERY_STEP, DETERMINISTIC, *on_device, "trainer.precision=16-mixed", "scheduler=none"]
    assert_resumes_after_power_cut(train_run(tmp_path / "whole", *overrides), 13, *overrides)


def test_resume_after_kill(tmp_path: Path, on_device: list[str]) -> None:
    """One SIGKILL of a process of its own, resumed by another."""
    assert_resumes_after_kill(tmp_path, DETERMINISTIC, *on_device)
