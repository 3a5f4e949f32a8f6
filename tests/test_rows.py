"""Rows from text lines, tables, JSON lines, directories, file names and datasets."""

import io
import json
import os
import re

import pytest
import tensorflow.compat.v1 as tf

from aocr.data.formats import format_of, read_rows
from aocr.data.records import to_example
from aocr.data.rows import Rejected, Row
from aocr.errors import UserError

NAMES = re.compile(r"(.*?)(?:_[0-9]+)?")


def read(source, input_format="auto", stdin=b""):
    """Returns ([(number, path, label)] of usable rows, [(number, kind, reason)] of rejected ones)."""
    source = str(source)
    rows = list(read_rows(source, format_of(source, input_format), NAMES, io.BytesIO(stdin)))
    assert all(row.source == source for row in rows)
    return ([(row.number, row.path, row.label) for row in rows if isinstance(row, Row)],
            [(row.number, row.kind, row.reason) for row in rows if isinstance(row, Rejected)])


@pytest.fixture
def file(tmp_path):
    """Returns a function that writes a file, `file(name, content)`, and returns its path."""
    def write(name, content):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(tmp_path / name)

    return write


def test_lines(file):
    lines = ["a.png TEXT", "", "b.png\tTEXT", "a.png two words ", "a.png  leading", "a.png ", "a b.png\tÜ 字 x",
             "c.png", " TEXT"]
    rows, rejected = read(file("list", "\ufeff" + "\r\n".join(lines)))
    assert rows == [(1, "a.png", "TEXT"), (3, "b.png", "TEXT"), (4, "a.png", "two words "), (5, "a.png", " leading"),
                    (6, "a.png", ""), (7, "a b.png", "Ü 字 x")]
    assert [(number, kind) for number, kind, _ in rejected] == [(8, "no label field"), (9, "no label field")]
    assert "'c.png'" in rejected[0][2]


def test_lines_that_are_not_utf_8(file):
    rows, rejected = read(file("list.txt", b"a.png caf\xe9\na.png cafe\n"))
    assert rows == [(2, "a.png", "cafe")]
    assert rejected[0][:2] == (1, "not UTF-8") and "byte 0xe9 at 9" in rejected[0][2]


def test_tsv_with_and_without_header(file):
    assert read(file("a.tsv", "a b.png\tone, \"two\"\nc.png\t\nd.png\n")) == (
        [(1, "a b.png", "one, \"two\""), (2, "c.png", "")],
        [(3, "no label field", "1 fields; a row must be an image path, a tab and the label")])
    assert read(file("b.TSV", "Text\tsplit\tFile\nONE\ttrain\ta.png\nTWO\ttrain\n"))[0] == [(2, "a.png", "ONE")]


def test_csv_with_quotes(file):
    content = 'path,label\n"a, b.png","say ""x"", y"\nc.png,"two\nlines"\nd.png,\xff\ne.png,"torn" x\nf.png,LAST\n'
    rows, rejected = read(file("a.csv", content.encode("latin-1")))
    assert rows == [(2, "a, b.png", 'say "x", y'), (3, "c.png", "two\nlines"), (7, "f.png", "LAST")]
    assert [(number, kind) for number, kind, _ in rejected] == [(5, "not UTF-8"), (6, "bad CSV")]


def test_json_lines(file):
    lines = [json.dumps({"image": "a.png", "label": "ONE"}), json.dumps({"text": "TWO", "file": "b.png"}),
             '{"image": "c.png"', "[1]", json.dumps({"image": "d.png", "label": 7}), json.dumps({"label": "X"})]
    rows, rejected = read(file("a.jsonl", "\n".join(lines)))
    assert rows == [(1, "a.png", "ONE"), (2, "b.png", "TWO")]
    assert [(number, kind) for number, kind, _ in rejected] == [
        (3, "bad JSON"), (4, "bad JSON"), (5, "no label field"), (6, "no path field")]


def test_a_folder_with_label_files(file, tmp_path):
    for name, label in [("x/b.png", "TWO\n"), ("x/a.png", "ONE"), ("x/deep/c.jpg", "THREE\r\n"), ("x/d.tif", None)]:
        path = file(name, b"")
        if label is not None:
            ending = ".gt.txt" if "a." in name else ".txt"
            file(path.rsplit(".", 1)[0][len(str(tmp_path)) + 1:] + ending, label)
    folder = str(tmp_path / "x")
    rows, rejected = read(folder)
    assert rows == [(1, f"{folder}/a.png", "ONE"), (2, f"{folder}/b.png", "TWO"), (4, f"{folder}/deep/c.jpg", "THREE")]
    assert [(number, kind) for number, kind, _ in rejected] == [(3, "no label file")]
    assert f"{folder}/d.tif" in rejected[0][2]


def test_a_folder_with_labels_in_the_names(file, tmp_path):
    for name in ("x/AB.png", "x/CD_17.jpeg", "x/E_F_2.png", "x/notes.md"):
        file(name, b"")
    folder = str(tmp_path / "x")
    assert read(folder) == ([(1, f"{folder}/AB.png", "AB"), (2, f"{folder}/CD_17.jpeg", "CD"),
                             (3, f"{folder}/E_F_2.png", "E_F")], [])
    pattern = re.compile("([A-Z]+)")
    rows = list(read_rows(folder, "names", pattern, None))
    assert [row.label for row in rows if isinstance(row, Row)] == ["AB"]
    assert [row.kind for row in rows if isinstance(row, Rejected)] == ["no label in the name"] * 2


def test_a_dataset(tmp_path):
    path = str(tmp_path / "data.tfrecords")
    with tf.io.TFRecordWriter(path, "GZIP") as writer:
        for image, label in [(b"1", "ONE"), (b"2", "ZWEI ü")]:
            writer.write(to_example(image, label, f"from {label}").SerializeToString())
        writer.write(tf.train.Example(features=tf.train.Features(feature={
            name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"\xff"])) for name in ("image", "label")
        })).SerializeToString())
    rows = list(read_rows(path, format_of(path, "auto"), NAMES, None))
    assert rows[:2] == [Row(path, 0, None, "ONE", image=b"1", comment="from ONE"),
                        Row(path, 1, None, "ZWEI ü", image=b"2", comment="from ZWEI ü")]
    assert (rows[2].number, rows[2].kind) == (2, "not UTF-8")
    (tmp_path / "cut.tfrecord").write_bytes(b"no record at all")
    with pytest.raises(UserError, match="broken after 0 records"):
        list(read_rows(str(tmp_path / "cut.tfrecord"), "tfrecord", NAMES, None))


def test_standard_input():
    assert read("-", stdin=b"a.png ONE\n") == ([(1, "a.png", "ONE")], [])
    assert read("-", "csv", stdin=b"label,path\nONE,a.png\n") == ([(2, "a.png", "ONE")], [])


def test_a_format_that_is_not_the_inputs(tmp_path):
    with pytest.raises(UserError, match="--input-format csv reads files, not directories; use"):
        format_of(str(tmp_path), "csv")
    with pytest.raises(UserError, match="--input-format names reads directories, not files; use"):
        format_of(str(tmp_path / "none"), "names")


def test_names_that_are_no_text(tmp_path):
    folder = os.fsencode(tmp_path)
    for name in (b"A\xff.png", b"B.png"):
        with open(os.path.join(folder, name), "wb"):
            pass
    rows, rejected = read(tmp_path, "names")
    assert rows == [(2, f"{tmp_path}/B.png", "B")]
    assert rejected == [(1, "not UTF-8", f"{tmp_path}/A\udcff.png: the name is not UTF-8; rename the file")]


def test_a_label_pattern_whose_group_has_no_part_in_a_name(file, tmp_path):
    file("B.png", b"")
    row, = read_rows(str(tmp_path), "names", re.compile("(A)|B"), None)
    assert row.kind == "no label in the name"


def test_json_that_is_nested_too_deeply(file):
    rows, rejected = read(file("a.jsonl", "[" * 100_000 + '\n{"image": "a.png", "label": "ONE"}'))
    assert rows == [(2, "a.png", "ONE")]
    assert rejected[0][:2] == (1, "bad JSON") and rejected[0][2].startswith("nested too deeply; ")
