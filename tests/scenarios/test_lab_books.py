"""Every command of the lab books, with small limits: fewer batches, and sweeps cut down to a few small runs."""

import re
import shlex
from pathlib import Path

import pytest

from tests.helpers import ROOT, Cli
from tests.scenarios.test_readme import LIMITS, limited_fit

BOOKS = sorted((ROOT / "experiments").glob("*/README.md"))
FEW_LABELS = ["analysis=[probe]", "analysis.probe.all_labels=false", "analysis.probe.labels_per_class=[5]"]
EXERCISES = {"sparsity_weight", "l1_vs_kl", "overcomplete", "selectivity", "truncation", "robustness"}
SMALLER = {
    "equal_sparsity": ["seed=1", "sparsity=l1", "model.latent_dim=16"],
    "l1_vs_kl": ["seed=1,2", "sparsity=l1", "model.latent_dim=16"],
    "l1_vs_kl_matched": ["seed=1,2", "sparsity=kl", "target.value=0.2", "model.latent_dim=16"],
    "methods": ["sparsity=topk,l1", "target.value=8", "model.latent_dim=64"],
    "overcomplete": ["seed=1,2", "sparsity=l1", "model.latent_dim=16"],
    "sparsity_weight_l1,sparsity_weight_kl": ["seed=1", "sparsity.coefficient=0.01"],
    "targets": ["sparsity=l1", "model=linear"],
    "published_k_sparse": ["seed=1", "sparsity.k=10", "model.latent_dim=96", *FEW_LABELS],
    "published_wta": ["seed=1", "model.latent_dim=64", "model.start=random", *FEW_LABELS],
    "best_probe": ["seed=1", "model.latent_dim=64", "model.start=random", *FEW_LABELS],
    "linear_l0_10": ["seed=1", "model.latent_dim=64", "model.start=random"],
    "best_l0_10": ["seed=1", "model.latent_dim=64", "model.start=random"],
    "best_l0_32": ["seed=1", "model.latent_dim=64", "model.start=random"],
}


def _commands(book: Path) -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", book.read_text(), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def test_there_is_a_book_for_every_exercise() -> None:
    assert {book.parent.name for book in BOOKS} >= EXERCISES


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.parent.name)
def test_the_commands_of_a_lab_book(book: Path, cli: Cli) -> None:
    commands = _commands(book)
    assert commands, "a lab book says how to repeat it"
    for program, *arguments in commands:
        if not program.startswith("sparse-ae-"):
            assert all((ROOT / word).exists() for word in arguments if word.startswith("experiments/"))
            continue
        if program == "sparse-ae-train":
            named = [a.removeprefix("experiment=") for a in arguments if a.startswith("experiment=")]
            said = {argument.split("=")[0] for argument in arguments}  # and so what is to be tried
            smaller = [o for name in named for o in SMALLER[name] if o.split("=")[0] not in said]
            replaced = {override.split("=")[0] for override in smaller}
            arguments += smaller + [limit for limit in LIMITS if limit.split("=")[0] not in replaced]
        if program == "sparse-ae-fit":
            arguments = limited_fit(arguments)
        outcome = cli(program, *arguments)
        assert outcome.code == 0, (program, arguments, outcome.out, outcome.err)


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.parent.name)
def test_figures_and_links_exist(book: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", book.read_text()):
        assert (book.parent / target).exists(), target
