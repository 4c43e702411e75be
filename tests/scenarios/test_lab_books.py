"""Every command of the lab books; executed ones with fewer batches, and sweeps cut down to a few small runs."""

import re
from pathlib import Path

import pytest

from tests.helpers import COMMANDS, ROOT, Cli
from tests.scenarios.documented import LIMITS, check, commands, limited_fit

BOOKS = sorted((ROOT / "experiments").glob("*/README.md"))
FEW_LABELS = ["analysis=[probe]", "analysis.probe.all_labels=false", "analysis.probe.labels_per_class=[5]"]
EXERCISES = {"sparsity_weight", "l1_vs_kl", "overcomplete", "selectivity", "truncation", "robustness"}
SMALLER = {
    "activations": ["seed=1", "sparsity=topk", "target.value=16", "model.latent_dim=64"],
    "equal_sparsity": ["seed=1", "sparsity=l1", "model.latent_dim=16"],
    "l1_vs_kl": ["seed=1,2", "sparsity=l1", "model.latent_dim=16"],
    "l1_vs_kl_matched": ["seed=1,2", "sparsity=kl", "target.value=0.2", "model.latent_dim=16"],
    "methods": ["sparsity=topk,l1", "target.value=8", "model.latent_dim=64"],
    "natural_patches": ["seed=1", "sparsity=l1", "model.latent_dim=16", "data.n=1000"],
    "overcomplete": ["seed=1,2", "sparsity=l1", "model.latent_dim=16"],
    "recovery": ["seed=1", "sparsity=topk", "model.latent_dim=16", "target.value=4", "data.n=1000"],
    "sparsity_weight_l1,sparsity_weight_kl": ["seed=1", "sparsity.coefficient=0.01"],
    "targets": ["sparsity=l1", "model=linear"],
    "published_k_sparse": ["seed=1", "sparsity.k=10", "model.latent_dim=96", *FEW_LABELS],
    "published_wta": ["seed=1", "model.latent_dim=64", "model.start=random", *FEW_LABELS],
    "best_probe": ["seed=1", "model.latent_dim=64", "model.start=random", *FEW_LABELS],
    "linear_l0_10": ["seed=1", "model.latent_dim=64", "model.start=random"],
    "lista_l0_10": ["seed=1", "model.latent_dim=64", "model.start=random"],
    "lista_l0_32": ["seed=1", "model.latent_dim=64", "model.start=random"],
    "pursuit_l0_10": ["seed=1", "model.latent_dim=64", "model.start=random"],
    "pursuit_l0_32": ["seed=1", "model.latent_dim=64", "model.start=random"],
}


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, language_model: Path) -> None:
    """The model and the text that the commands of a book name."""
    (tmp_path / "minilm").symlink_to(language_model / "MODEL")
    (tmp_path / "corpus").symlink_to(language_model / "corpus")


def test_exercises_have_books() -> None:
    assert {book.parent.name for book in BOOKS} >= EXERCISES


def of_all_books() -> list[object]:
    """The command lines of every book that are ours, each once, as words."""
    books = {" ".join(words): words for book in BOOKS for words in commands(book) if words[0] in COMMANDS}
    return [pytest.param(words, id=line) for line, words in books.items()]


@pytest.mark.slow
@pytest.mark.parametrize("words", of_all_books())
def test_command(words: list[str], cli: Cli, finished_run: Path) -> None:
    """Composed, checked and built; nothing is trained."""
    program, *arguments = words
    check(cli, program, arguments, {"RUN": finished_run})


@pytest.mark.slow
@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.parent.name)
def test_commands_executed(book: Path, cli: Cli) -> None:
    lines = commands(book)
    assert lines, "a lab book says how to repeat it"
    for program, *arguments in lines:
        if not program.startswith("sparse-ae-"):
            assert all((ROOT / word).exists() for word in arguments if word.startswith("experiments/"))
            continue
        if program == "sparse-ae-train":
            named = [a.removeprefix("experiment=") for a in arguments if a.startswith("experiment=")]
            said = {argument.split("=")[0].lstrip("~") for argument in arguments}  # and so what is to be tried
            smaller = [o for name in named for o in SMALLER[name] if o.split("=")[0] not in said]
            replaced = {override.split("=")[0] for override in smaller}
            compared = any(o.startswith("seed=") and "," in o for name in named for o in SMALLER[name])  # several seeds
            arguments = [_first_seeds(argument, 2 if compared else 1) for argument in arguments]
            arguments += smaller + [limit for limit in LIMITS if limit.split("=")[0] not in replaced]
        if program == "sparse-ae-fit":
            arguments = limited_fit([_first_seeds(argument, 1) for argument in arguments])
        outcome = cli(program, *arguments)
        assert outcome.code == 0, (program, arguments, outcome.out, outcome.err)


def _first_seeds(argument: str, number: int) -> str:
    """An argument that names seeds with the first of them only; any other as it is."""
    return ",".join(argument.split(",")[:number]) if argument.startswith("seed=") else argument


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.parent.name)
def test_links(book: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", book.read_text()):
        assert (book.parent / target).exists(), target
