"""The house rules that a machine can check."""

import ast
from pathlib import Path

import pytest

import sparse_ae
from sparse_ae.config.build import check_arguments, locate
from tests.helpers import CONF, ROOT, plain_config

PACKAGE = Path(sparse_ae.__file__).parent

FLOORS = """
    functional atomic config data coders plotting
    sparsity metrics
    models targets
    dead runs
    training analysis reporting
    jobs
    cli
    sweep
    train fit evaluate analyse report __init__
"""
"""What each part may import of ours: all that stands above or to the left of it. Nothing below, so no circles."""


def _parts_imported(path: Path) -> set[str]:
    """The parts of the package that a file imports, wherever in the file."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {module.split(".")[1] for module in modules if module.startswith("sparse_ae.")}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_to_lower_floors(path: Path) -> None:
    order = FLOORS.split()
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    below = order[: order.index(part)]
    assert _parts_imported(path) & set(order) <= {part, *below}


@pytest.mark.parametrize(
    "group", ["data", "model", "sparsity", "target", "dead", "optimizer", "scheduler", "trainer", "analysis", "coder"]
)
def test_every_yaml_is_commented_and_builds(group: str) -> None:

    for path in sorted((CONF / group).glob("*.yaml")):
        option = f"[{path.stem}]" if group == "analysis" else path.stem
        spec = plain_config(f"{group}={option}", name="fit" if group == "coder" else "train")[group]
        spec = spec[path.stem] if group == "analysis" else spec
        assert "#" in path.read_text(), f"{path} explains nothing"
        if spec:
            arguments = {k: v for k, v in spec.items() if k not in ("_target_", "_partial_")}
            check_arguments(locate(spec["_target_"], group), arguments, group, partial=True)


def test_conf_holds_no_python() -> None:
    """A wheel puts ``conf/`` inside the package; a module there would be a part of it that no rule here sees."""
    assert {path.suffix for path in CONF.rglob("*") if path.is_file()} == {".yaml"}


def test_experiments_open_with_their_command() -> None:
    for path in (CONF / "experiment").glob("*.yaml"):
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
