"""Print a lab book's table: columns of a summary.csv or analysis.csv, mean over seeds and in brackets their range.

    python experiments/table.py outputs/l1_vs_kl/summary.csv sparsity test/mse:.4f test/fvu:.3f test/l0:.0f

Columns with a format are averaged over the rows that are equal in the columns without one.
"""

import argparse
from pathlib import Path

import pandas as pd


def cell(values: pd.Series, form: str) -> str:
    """Return ``mean (least-greatest)``; the mean alone if the range does not show at this precision."""
    if not values.count():
        return "-"
    mean, least, greatest = (format(number, form) for number in values.agg(["mean", "min", "max"]))
    return mean if least == greatest else f"{mean} ({least}-{greatest})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("columns", nargs="+", metavar="NAME[:FORMAT]")
    arguments = parser.parse_args()
    columns = [column.partition(":")[::2] for column in arguments.columns]
    rows = pd.read_csv(arguments.csv, dtype=str, keep_default_na=False)  # "none" and "null" are options
    for name, _ in columns:
        if name not in rows:
            parser.error(f"{name}: no such column (expected {', '.join(rows)})")
    keys = [name for name, form in columns if not form]
    numbers = {name: pd.to_numeric(rows[name]) for name, form in columns if form}
    print("|", " | ".join(name for name, _ in columns), "|")
    print("|" + "---|" * len(columns))
    for _, own in rows.groupby(keys or (lambda row: 0), sort=False):
        cells = [cell(numbers[name][own.index], form) if form else own[name].iloc[0] for name, form in columns]
        print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
