"""Text files and the documents in them."""

import json
from pathlib import Path

import pytest

from sparse_ae.config.errors import ConfigError
from sparse_ae.data.activations import corpus
from sparse_ae.data.activations.corpus import pieces, text_files


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
    assert list(pieces(files, "text")) == list(enumerate(["two", "line 0", "line 1", "ten", "deep"]))
    assert list(pieces(files, "body")) == list(enumerate(["two", "body 0", "body 1", "ten", "deep"]))


def test_all_bytes_are_told_as_they_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "LONGEST", 4)
    files = text_files(str(folder))
    told: list[int] = []
    assert list(pieces(files, "text", told.append))
    assert sum(told) == sum(file.stat().st_size for file in files)


def test_links_that_lead_back_are_not_followed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "20.txt").write_text("twenty")
    (other / "back").symlink_to(folder)
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "sub" / "here").symlink_to(folder / "sub")
    (folder / "linked").symlink_to(other)
    names = [str(file.relative_to(folder)) for file in text_files(str(folder))]
    assert names == ["2.txt", "3.jsonl", "10.txt", "linked/20.txt", "sub/deep.TXT"]


def test_patterns_and_single_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [file.name for file in text_files(f"{folder}/*.txt")] == ["2.txt", "10.txt"]
    assert [file.name for file in text_files(f"{folder}/**/*.[tT]*")] == ["2.txt", "10.txt", "deep.TXT"]
    assert text_files(str(folder / "2.txt")) == [folder / "2.txt"]
    monkeypatch.chdir(folder)
    assert text_files("*.jsonl") == [Path("3.jsonl")]


def _read(content: bytes, file: Path, longest: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    file.write_bytes(content)
    monkeypatch.setattr(corpus, "LONGEST", longest)
    found = list(pieces([file], "text"))
    assert {number for number, _ in found} == {0}
    return [text for _, text in found]


def test_a_long_document_comes_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They end before a space between letters, else after a line, else where they are long enough."""
    text = "one two. three four, 5 6 7 8 9 10 11\nab\ncd\n0123456789abcdef"
    expected = ["one two. three", " four, 5 6 7 8 9", " 10 11\nab\ncd\n", "0123456789abcdef"]
    assert _read(text.encode(), tmp_path / "a.txt", 16, monkeypatch) == expected
    line = json.dumps({"text": text}).encode()
    assert _read(line, tmp_path / "a.jsonl", 16, monkeypatch) == expected


@pytest.mark.parametrize("longest", [1, 2, 3, 5, 1000])
def test_pieces_together_are_the_text(longest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A character of several bytes is not torn, wherever reading stops."""
    text = "Grüße, 世界! 🙂\r\n\r\n  a b\tc " * 3
    for content in (text.encode(), b"\xef\xbb\xbf" + text.encode()):
        found = _read(content, tmp_path / "a.txt", longest, monkeypatch)
        assert "".join(found) == text
        assert max(map(len, found)) <= longest
    assert _read(b"", tmp_path / "a.txt", longest, monkeypatch) == [""]
    assert _read(b"\xef\xbb\xbf", tmp_path / "a.txt", longest, monkeypatch) == [""]


@pytest.mark.parametrize("longest", [1, 2, 3, 4, 1000])
@pytest.mark.parametrize(
    ("content", "byte"),
    [(b"ab\xff", 2), (b"\xef\xbb\xbfab\xff", 5), ("ü世".encode() + b"\xe4\xb8", 5), (b"a\xe4\xb8b", 1)],
)
def test_the_byte_that_is_no_text(
    content: bytes, byte: int, longest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=rf"a\.txt: no text in UTF-8 \(byte {byte}\) \(expected text in UTF-8\)$"):
        _read(content, tmp_path / "a.txt", longest, monkeypatch)


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffGrüße\r\n".encode())
    assert list(pieces([file], "text")) == [(0, "Grüße\r\n")]


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
        ('{"text": "a\\ud800b"}', r"text=.*a\.jsonl: no text in UTF-8 in line 1 \(\\ud800 is no character\)"),
    ],
)  # fmt: skip
def test_lines_that_are_no_documents(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=message):
        list(pieces([file], "text"))
