"""Questions to a command, which it answers without importing torch."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("program", ["train", "fit", "evaluate", "analyse", "report"])
def test_help_does_not_import_torch(tmp_path: Path, program: str) -> None:
    code = (
        f"import sys\nsys.argv = ['{program}', '--help']\nfrom sparse_ae.commands.{program} import main\n"
        "try: main()\nexcept SystemExit as stop: assert not stop.code\n"
        "assert not {'torch', 'lightning', 'matplotlib', 'tensorboard'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ("--into" if program == "report" else "active_threshold") in done.stdout
    assert list(tmp_path.iterdir()) == []
