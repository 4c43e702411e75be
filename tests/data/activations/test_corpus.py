"""Text files and the documents in them."""

import json
from pathlib import Path

import pytest

from sparse_ae.config.errors import ConfigError
from sparse_ae.data.activations.corpus import documents, text_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {"10.txt": "ten", "2.txt": "two", "sub/deep.TXT": "deep", "notes.md": "no", ".hidden.txt": "no"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    lines = [json.dumps({"text": f"line {i}", "body": f"body {i}"}) for i in range(2)]
    (tmp_path / "3.jsonl").write_text("\n".join([*lines, "", ""]))
    return tmp_path


def test_a_folder_is_read_in_natural_order_without_hidden_and_other_files(folder: Path) -> None:
    files = text_files(str(folder))
    assert [file.name for file in files] == ["2.txt", "3.jsonl", "10.txt", "deep.TXT"]
    assert list(documents(files, "text")) == ["two", "line 0", "line 1", "ten", "deep"]
    assert list(documents(files, "body")) == ["two", "body 0", "body 1", "ten", "deep"]


def test_patterns_and_single_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [file.name for file in text_files(f"{folder}/*.txt")] == ["2.txt", "10.txt"]
    assert [file.name for file in text_files(f"{folder}/**/*.[tT]*")] == ["2.txt", "10.txt", "deep.TXT"]
    assert text_files(str(folder / "2.txt")) == [folder / "2.txt"]
    monkeypatch.chdir(folder)
    assert text_files("*.jsonl") == [Path("3.jsonl")]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffGrüße\r\n".encode())
    assert list(documents([file], "text")) == ["Grüße\r\n"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none", r"text=.*none: no such file or folder$"),
        ("*.csv", r"text=.*\*\.csv: matches no file$"),
        (
            "notes.md",
            r"text=.*notes\.md: unknown file type \.md \(expected \.jsonl, \.txt files, or folders of them\)$",
        ),
        ("empty", r"text=.*empty: no text files \(expected \.jsonl, \.txt files, or folders of them\)$"),
    ],
)
def test_no_text_files(text: str, message: str, folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(ConfigError, match=message):
        text_files(f"{folder}/{text}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{"txt": "b"}', r"field=text: a\.jsonl has no such key in line 2; did you mean txt\? \(exp"),
        ('{"text": 1}', r"field=text: a\.jsonl has a value of type int there in line 1 \(expected the key of a "),
        ("[1]", r"text=.*a\.jsonl: no JSON object in line 1 \(expected an object in each line\)$"),
        ("{", r"text=.*a\.jsonl: no JSON object in line 1"),
        ("\xff", r"text=.*a\.jsonl: no text in UTF-8 in line 1 \(byte 0\)"),
    ],
)  # fmt: skip
def test_lines_that_are_no_documents(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=message):
        list(documents([file], "text"))


def test_a_text_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"ab\xff")
    with pytest.raises(ConfigError, match=r"a\.txt: no text in UTF-8 \(byte 2\) \(expected text in UTF-8\)$"):
        list(documents([tmp_path / "a.txt"], "text"))
