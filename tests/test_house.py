"""The house rules that a machine can check."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sparse_ae
from sparse_ae.config.build import check_arguments, locate
from tests.helpers import CONF, OF_SEVERAL, ROOT, plain_config

PACKAGE = Path(sparse_ae.__file__).parent

FLOORS = """
    functional atomic lock config data coders plotting
    sparsity metrics
    models targets
    dead run
    loggers callbacks
    training analysis reporting
    packing
    jobs
    cli
    sweeps
    commands session sklearn __init__
"""
"""Parts of the package, in the order in which they may be imported: a part imports those before it, none after."""

OPENINGS = re.compile(r"(What|Whether|How|Of|Where|Which|So|Those|The same)\b")
"""First words with which a docstring cannot be read alone."""


def _docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each docstring of a file: of module, classes and functions, and after assignments."""
    for node in ast.walk(ast.parse(path.read_text())):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        owns = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for before, statement in zip([None, *body], body, strict=False):
            is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            of_attribute = isinstance(before, ast.Assign | ast.AnnAssign)
            if is_text and isinstance(statement.value.value, str) and (of_attribute or (before is None and owns)):
                yield statement.lineno, statement.value.value.strip()


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
    "group",
    [
        *("data", "model", "sparsity", "target", "dead", "optimizer", "scheduler", "trainer", "coder"),
        *OF_SEVERAL,
    ],
)
def test_every_yaml_is_commented_and_builds(group: str) -> None:

    for path in sorted((CONF / group).glob("*.yaml")):
        option = f"[{path.stem}]" if group in OF_SEVERAL else path.stem
        spec = plain_config(f"{group}={option}", name="fit" if group == "coder" else "train")[group]
        spec = spec[path.stem] if group in OF_SEVERAL else spec
        assert "#" in path.read_text(), f"{path} explains nothing"
        if spec:
            arguments = {k: v for k, v in spec.items() if k not in ("_target_", "_partial_")}
            check_arguments(locate(spec["_target_"], group), arguments, group, partial=True)


def test_conf_holds_no_python() -> None:
    """A wheel puts ``conf/`` inside the package: a module there would be a part of it that no rule here sees, and Hatch
    would refuse every editable installation.
    """
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


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_docstrings_can_be_read_alone(path: Path) -> None:
    refused = [(line, text.splitlines()[0]) for line, text in _docstrings(path) if OPENINGS.match(text)]
    assert refused == []


def test_docstrings_are_found(tmp_path: Path) -> None:
    source = '"""M."""\n\nX = 1\n"""Whether x."""\n\n\nclass C:\n    """C."""\n\n    y: int\n    """Y."""\n'
    source += '\n    async def f(self):\n        """F."""\n        """No docstring."""\n'
    (tmp_path / "module.py").write_text(source)
    found = dict(_docstrings(tmp_path / "module.py"))
    assert found == {1: "M.", 4: "Whether x.", 8: "C.", 11: "Y.", 14: "F."}


def test_version_is_that_of_the_project() -> None:
    project = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)
    assert project is not None
    assert citation is not None
    assert sparse_ae.__version__ == project[1] == citation[1]


def test_the_version_needs_no_torch() -> None:
    code = "import sys, sparse_ae; sparse_ae.__version__; assert not {'torch', 'sklearn', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_readme_fits_in_250_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 250
