"""A lab book's table: columns of a summary.csv or analysis.csv, mean over seeds and in brackets their range.

    python experiments/table.py outputs/l1_vs_kl/summary.csv sparsity test/mse:.4f test/fvu:.3f test/l0:.0f

Columns with a format are averaged, those without one tell the rows apart.
"""

import argparse
import csv
from pathlib import Path


def cell(values: list[str], form: str) -> str:
    """``mean (least-greatest)``, the range only where it shows."""
    numbers = [float(value) for value in values if value]
    if not numbers:
        return "-"
    mean, least, greatest = (format(n, form) for n in (sum(numbers) / len(numbers), min(numbers), max(numbers)))
    return mean if least == greatest else f"{mean} ({least}-{greatest})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("columns", nargs="+", metavar="NAME[:FORMAT]")
    arguments = parser.parse_args()
    columns = [column.partition(":")[::2] for column in arguments.columns]
    with arguments.csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    missing = [name for name, _ in columns if name not in rows[0]]
    if missing:
        parser.error(f"{missing[0]}: no such column (allowed: {', '.join(rows[0])})")
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name, form in columns if not form), []).append(row)
    print("|", " | ".join(name for name, _ in columns), "|")
    print("|" + "---|" * len(columns))
    for own in groups.values():
        cells = [cell([r[name] for r in own], form) if form else own[0][name] for name, form in columns]
        print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
