"""The house rules that a machine can check."""

import ast
from pathlib import Path

import pytest

import sparse_ae

PACKAGE = Path(sparse_ae.__file__).parent
ROOT = PACKAGE.parent

# What each part may import of ours, besides itself. Entry points may import everything.
ALLOWED = {
    "build": set(),
    "functional": set(),
    "data": set(),
    "plotting": set(),
    "files": set(),
    "identity": set(),
    "timing": set(),
    "provenance": set(),
    "runs": {"files", "identity", "provenance"},
    "metrics": {"functional"},
    "sparsity": {"functional"},
    "models": {"functional", "sparsity"},
    "dead": {"functional", "models", "sparsity"},
    "targets": {"functional", "sparsity"},
    "objective": {"dead", "functional", "models", "sparsity", "targets"},
    "checkpoint_file": {"files"},
    "export": {"build", "checkpoint_file", "coders", "files", "models", "runs", "sparsity"},
    "recode": {"coders", "export", "models", "runs"},
    "analysis": {
        "build",
        "coders",
        "export",
        "functional",
        "identity",
        "metrics",
        "models",
        "plotting",
        "runs",
        "timing",
    },
    "coders": {"functional", "models"},
    "reporting": {"files", "identity", "plotting", "runs", "summary"},
    "stored": {"analysis", "build", "coders", "data", "export", "files", "models", "runs"},
    "training": {
        "checkpoint_file",
        "data",
        "dead",
        "files",
        "functional",
        "identity",
        "metrics",
        "models",
        "objective",
        "runs",
        "sparsity",
    },
    "summary": {"runs"},
    "cli": {"build", "identity", "recode"},
}
ENTRY_POINTS = {"train", "fit", "launch", "experiment", "job", "sweep", "evaluate", "analyse", "report", "__init__"}


def _imports(path: Path) -> set[str]:
    """The parts of our package that a file imports, wherever in the file."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
    return {m.split(".")[1] for m in modules if m.startswith("sparse_ae.")}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part in ENTRY_POINTS or part == "conf":
        return
    assert part in ALLOWED, f"{part} is new: say here what it may import"
    names = {p.name.removesuffix(".py") for p in PACKAGE.iterdir()}
    assert (_imports(path) & names) - {part} <= ALLOWED[part]


@pytest.mark.parametrize(
    "group", ["data", "model", "sparsity", "target", "dead", "optimizer", "scheduler", "trainer", "analysis", "coder"]
)
def test_every_yaml_is_commented_and_builds(group: str) -> None:
    from sparse_ae.build import check_arguments, locate
    from tests.conftest import plain_config

    for path in sorted((PACKAGE / "conf" / group).glob("*.yaml")):
        option = f"[{path.stem}]" if group == "analysis" else path.stem
        spec = plain_config(f"{group}={option}", name="fit" if group == "coder" else "train")[group]
        spec = spec[path.stem] if group == "analysis" else spec
        assert "#" in path.read_text(), f"{path} explains nothing"
        if spec:
            arguments = {k: v for k, v in spec.items() if k not in ("_target_", "_partial_")}
            check_arguments(locate(spec["_target_"], group), arguments, group, partial=True)


def test_experiments_open_with_their_command() -> None:
    for path in (PACKAGE / "conf" / "experiment").glob("*.yaml"):
        first, second, *_ = path.read_text().splitlines()
        assert first == "# @package _global_"
        assert second.startswith("# sparse-ae-train")


def test_constraints_pin_and_carry_no_address() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all("==" in line for line in pins)
    assert not any("://" in line or line.startswith("-") for line in pins)


def test_the_package_parses_on_the_oldest_python_it_claims() -> None:
    unreadable = []
    for path in PACKAGE.rglob("*.py"):
        try:
            ast.parse(path.read_text(), feature_version=(3, 10))
        except SyntaxError:
            unreadable.append(path)
    assert unreadable == []
