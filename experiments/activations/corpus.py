"""About a million tokens of text that every user of this project has: docstrings, a file per module.

python experiments/activations/corpus.py corpus

Docstrings and topics of Python's standard library come first, then as many characters of each of ``PACKAGES``. They are
dependencies of this project, which are parsed and not imported. No docstring is written twice. The files are numbered
in a random order, so that the first of them are a fair sample.
"""

import argparse
import ast
import random
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution
from pathlib import Path
from pydoc_data.topics import topics

PACKAGES = (
    "lightning",
    "matplotlib",
    "numpy",
    "pandas",
    "scikit-learn",
    "scipy",
    "torch",
    "torchmetrics",
    "torchvision",
)
SHARE = 165_000  # largest number of characters of each, for a million tokens in all
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
WITH_DOCSTRINGS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def modules(places: Iterable[Path], root: Path, seen: set[str]) -> Iterator[tuple[str, str]]:
    """Yield name and docstrings of each module at ``places`` below ``root`` that has some not ``seen`` before."""
    for place in sorted(places):
        if LEFT_OUT & set(place.parts):
            continue
        try:
            nodes = ast.walk(ast.parse((root / place).read_bytes()))
        except SyntaxError:  # templates that are no Python, such as those of lib2to3
            continue
        found = [ast.get_docstring(node) for node in nodes if isinstance(node, WITH_DOCSTRINGS)]
        new = [text for text in dict.fromkeys(found) if text and text not in seen]
        seen.update(new)
        if new:
            yield ".".join(place.with_suffix("").parts), "\n\n".join(new)


def standard_library(seen: set[str]) -> Iterator[tuple[str, str]]:
    """Yield all modules, then all topics."""
    root = Path(sysconfig.get_path("stdlib"))
    yield from modules((file.relative_to(root) for file in root.rglob("*.py")), root, seen)
    for name, text in topics.items():
        yield f"topic.{name}", text


def package(name: str, seen: set[str]) -> Iterator[tuple[str, str]]:
    """Yield modules of an installed package in random order, without those that exceed its ``SHARE``."""
    installed = distribution(name)
    files = [Path(file) for file in installed.files or [] if file.suffix == ".py"]
    documents = list(modules(files, Path(str(installed.locate_file(""))), seen))
    random.Random(0).shuffle(documents)
    left = SHARE
    for module, text in documents:
        if len(text) <= left:
            left -= len(text)
            yield module, text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    seen: set[str] = set()
    parts = {f"Python {sys.version.split()[0]}": dict(standard_library(seen))}
    for name in PACKAGES:
        parts[f"{name} {distribution(name).version}"] = dict(package(name, seen))
    documents = sorted({name: text for part in parts.values() for name, text in part.items()}.items())
    random.Random(0).shuffle(documents)
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, text) in enumerate(documents):
        (folder / f"{number:04}-{name}.txt").write_text(text + "\n", encoding="utf-8")
    for title, part in parts.items():
        print(f"{title}: {len(part)} files, {sum(map(len, part.values())):,} characters")
    print(f"{len(documents)} files, {sum(len(text) for _, text in documents):,} characters in {folder}")


if __name__ == "__main__":
    main()
