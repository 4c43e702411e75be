"""The package as it is installed: a wheel of the tree, a wheel of the sdist, and an editable install."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.helpers import CONF, ROOT, SMALL

PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
OFFLINE = ["--no-deps", "--no-index"]


def call(*words: object, cwd: Path, path: Path | None = None) -> str:
    """The output of a program that must succeed; ``path`` is where it looks for Python packages first."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {} if path is None else {"PYTHONPATH": str(path)}
    done = subprocess.run([*map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_files_of_wheel() -> None:
    """The package with ``conf/`` inside it, and nothing else."""
    files = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {f"sparse_ae/conf/{path.relative_to(CONF)}" for path in CONF.rglob("*.yaml")} <= files
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "sparse_ae").rglob("*.py")} <= files
    assert {name.split("/")[0] for name in files} == {"sparse_ae"}


def build_wheel(source: Path, folder: Path) -> Path:
    """A wheel of a source tree or an sdist."""
    call(*PIP, "wheel", *OFFLINE, "--no-build-isolation", "--wheel-dir", folder, source, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def build_sdist(folder: Path) -> Path:
    """An sdist of the tree."""
    call(sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", folder, cwd=ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    return sdist


@pytest.fixture(scope="module", params=["tree", "sdist"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a wheel is installed into, beside a foreign ``conf/``."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel = build_wheel(ROOT if request.param == "tree" else build_sdist(folder), folder)
    call(*PIP, "install", *OFFLINE, "--target", folder / "site", wheel, cwd=folder)
    (folder / "site" / "conf").mkdir()
    (folder / "site" / "conf" / "train.yaml").write_text("foreign: true\n")
    return folder / "site"


@pytest.mark.slow
def test_wheel_composes(site: Path, tmp_path: Path) -> None:
    where = call(sys.executable, "-c", "import sparse_ae; print(sparse_ae.__file__)", cwd=tmp_path, path=site)
    assert where.startswith(str(site))
    config = call(sys.executable, site / "bin" / "sparse-ae-train", "--cfg", "job", cwd=tmp_path, path=site)
    assert "_target_: sparse_ae.data.MNIST" in config
    assert "foreign" not in config


@pytest.mark.slow
@pytest.mark.parametrize("site", ["tree"], indirect=True)
def test_wheel_trains_and_reports(site: Path, tmp_path: Path) -> None:
    small = [*SMALL, "analysis=[overview]"]
    assert "FVU" in call(sys.executable, "-m", "sparse_ae.commands.train", *small, cwd=tmp_path, path=site)
    call(sys.executable, "-m", "sparse_ae.commands.report", "outputs/default", cwd=tmp_path, path=site)
    assert (tmp_path / "outputs" / "default" / "report.html").exists()


@pytest.mark.slow
def test_editable_install_composes(tmp_path: Path) -> None:
    """In an environment of its own, with what this one has installed. Takes its build tools from the package index."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    installed = call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    (Path(installed) / "installed.pth").write_text(sysconfig.get_path("purelib"))
    pip = [PIP[0], "-m", "pip", "--python", python, *PIP[3:]]
    call(*pip, "install", "--no-deps", "--editable", ROOT, cwd=tmp_path)
    config = call(tmp_path / "env" / "bin" / "sparse-ae-train", "--cfg", "job", cwd=tmp_path)
    assert "_target_: sparse_ae.data.MNIST" in config
