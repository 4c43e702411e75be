"""Fixtures: two tiny language models and a text, made once."""

from pathlib import Path

import pytest

from tests.data.activations.models import make_bert, make_byte_gpt2, make_corpus, make_gpt2


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a two-layer BERT."""
    return make_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a two-layer GPT-2."""
    return make_gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="session")
def byte_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a two-layer GPT-2 whose tokens are bytes."""
    return make_byte_gpt2(tmp_path_factory.mktemp("byte_gpt2"))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 30 short documents."""
    return make_corpus(tmp_path_factory.mktemp("text") / "corpus")
