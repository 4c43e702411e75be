"""Text that every machine has: the docstrings of Python's standard library and its topics, a file per module or topic.

python experiments/activations/corpus.py corpus

No docstring is written twice. The files are numbered in a random order, so that the first of them are a fair sample.
"""

import argparse
import ast
import random
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
WITH_DOCSTRINGS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def modules() -> Iterator[tuple[str, str]]:
    """Yield the name and the docstrings of each module of the standard library that has some of its own."""
    root = Path(sysconfig.get_path("stdlib"))
    seen: set[str] = set()
    for file in sorted(root.rglob("*.py")):
        place = file.relative_to(root)
        if LEFT_OUT & set(place.parts):
            continue
        try:
            nodes = ast.walk(ast.parse(file.read_bytes()))
        except SyntaxError:  # templates that are no Python, such as those of lib2to3
            continue
        found = [ast.get_docstring(node) for node in nodes if isinstance(node, WITH_DOCSTRINGS)]
        new = [text for text in dict.fromkeys(found) if text and text not in seen]
        seen.update(new)
        if new:
            yield ".".join(place.with_suffix("").parts), "\n\n".join(new)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    documents = sorted({**dict(modules()), **{f"topic.{name}": text for name, text in topics.items()}}.items())
    random.Random(0).shuffle(documents)
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, text) in enumerate(documents):
        (folder / f"{number:04}-{name}.txt").write_text(text + "\n", encoding="utf-8")
    characters = sum(len(text) for _, text in documents)
    print(f"{len(documents)} files, {characters:,} characters of Python {sys.version.split()[0]} in {folder}")


if __name__ == "__main__":
    main()
