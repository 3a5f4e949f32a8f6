"""From annotation files to datasets: what is used, what is reported, and when the output appears."""

import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from aocr.cli import main
from aocr.data import annotations
from aocr.data.annotations import BadRow, Row, parse_line


def read_dataset(path):
    """[(image bytes, label, comment or None)] of a dataset."""
    rows = []
    for serialized in tf.data.TFRecordDataset(path):
        features = tf.train.Example.FromString(serialized.numpy()).features.feature
        comment = features["comment"].bytes_list.value[0].decode() if "comment" in features else None
        rows.append((features["image"].bytes_list.value[0], features["label"].bytes_list.value[0].decode(), comment))
    return rows


@pytest.fixture
def image(tmp_path, monkeypatch):
    """The working directory is tmp_path, with an image a.png in it: its bytes."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.arange(77, dtype=np.uint8).reshape(7, 11)).save("a.png")
    return (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize("line, row", [
    (b"a.png TEXT", Row("a.png", "TEXT")),
    (b"a.png\tTEXT", Row("a.png", "TEXT")),
    (b"a.png two words ", Row("a.png", "two words ")),
    (b"a.png  leading", Row("a.png", " leading")),
    (b"a.png ", Row("a.png", "")),
    ("a.png Ünï 字".encode(), Row("a.png", "Ünï 字")),
])
def test_lines(line, row):
    assert parse_line(line) == row


@pytest.mark.parametrize("line, kind, told", [
    (b"a.png", "no label field", "'a.png'"),
    (b" TEXT", "no label field", "' TEXT'"),
    (b"a.png caf\xe9", "not UTF-8", "byte 0xe9 at 9"),
])
def test_bad_lines(line, kind, told):
    with pytest.raises(BadRow) as caught:
        parse_line(line)
    assert caught.value.args[0] == kind and told in caught.value.args[1]


def test_labels_are_upper_cased_unless_told(image):
    with open("list", "w", encoding="utf-8") as file:
        file.write("a.png abc Жё\n")
    assert main(["dataset", "list", "one", "--log-path", ""]) == 0
    assert main(["dataset", "list", "two", "--no-force-uppercase", "--save-filename", "--log-path", ""]) == 0
    assert read_dataset("one") == [(image, "ABC ЖЁ", None)]
    assert read_dataset("two") == [(image, "abc Жё", "a.png")]


def test_every_bad_line_is_reported_with_its_number_and_counted(image, capsys):
    with open("cut.png", "wb") as file:
        file.write(image[:len(image) // 2])
    with open("text.png", "wb") as file:
        file.write(b"this is text")
    open("empty.png", "wb").close()
    os.mkdir("folder.png")
    Image.new("L", (5, 3)).save("b.tiff")
    lines = [b"\xef\xbb\xbfa.png FIRST", b"a.png", b"", b"none.png X", b"cut.png X", b"text.png X", b"empty.png X",
             b"folder.png X", b"b.tiff X", b"a.png \xff", b"a.png LAST\r"]
    with open("list", "wb") as file:
        file.write(b"\n".join(lines))
    assert main(["dataset", "list", "out", "--log-path", ""]) == 0
    captured = capsys.readouterr()
    assert [label for _, label, _ in read_dataset("out")] == ["FIRST", "LAST"]
    assert captured.out == "records: 2\nskipped: 8\ndataset: out\n"
    warnings = [line for line in captured.err.splitlines() if "warning" in line]
    reasons = {2: "no label field", 4: "missing image", 5: "unreadable image", 6: "unreadable image",
               7: "empty file", 8: "unreadable image", 9: "unreadable image", 10: "not UTF-8"}
    assert len(warnings) == len(reasons)
    for line, (number, reason) in zip(warnings, reasons.items()):
        assert f"list:{number}: " in line and reason in line
    assert "Traceback" not in captured.err


def test_nothing_left_is_an_error_without_output(image, capsys):
    with open("list", "w") as file:
        file.write("none.png X\n")
    assert main(["dataset", "list", "out", "--log-path", ""]) == 1
    assert "no line can be used (1 skipped)" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["a.png", "list"]


def test_an_earlier_dataset_stays_until_the_new_one_is_complete(image, monkeypatch):
    with open("list", "w") as file:
        file.write("a.png OLD\n")
    assert main(["dataset", "list", "out", "--log-path", ""]) == 0
    with open("list", "w") as file:
        file.write("a.png NEW\na.png NEWER\n")
    calls = []

    def interrupted(path):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return image

    monkeypatch.setattr(annotations, "read_image", interrupted)
    assert main(["dataset", "list", "out", "--log-path", ""]) == 130
    assert [label for _, label, _ in read_dataset("out")] == ["OLD"]
    assert sorted(os.listdir()) == ["a.png", "list", "out"]


@pytest.mark.parametrize("arguments, told", [
    (["none.txt", "out"], "none.txt: cannot be read"),
    ([".", "out"], ".: a directory"),
    (["list", "no/such/folder/out"], "no/such/folder/out: cannot be written"),
])
def test_paths_that_do_not_work(image, arguments, told, capsys):
    with open("list", "w") as file:
        file.write("a.png X\n")
    assert main(["dataset", *arguments, "--log-path", ""]) == 1
    error = capsys.readouterr().err
    assert told in error and len(error.splitlines()) == 1
