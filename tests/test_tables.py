"""Rows of tables, lists and JSON as other people write them: read, kept whole or rejected, never cut."""

import codecs
import io
import json
import re

import pytest

from aocr.data.formats import read_rows
from aocr.data.rows import Row
from aocr.errors import UserError


def read(content, input_format):
    """Returns ([(number, path, label)] of usable rows, [(number, kind)] of rejected ones)."""
    content = content if isinstance(content, bytes) else content.encode()
    rows = list(read_rows("-", input_format, re.compile("()"), io.BytesIO(content)))
    return ([(row.number, row.path, row.label) for row in rows if isinstance(row, Row)],
            [(row.number, row.kind) for row in rows if not isinstance(row, Row)])


@pytest.mark.parametrize("content, labels, rejected", [
    # Behind the path, in the last column, without quotes: kept whole.
    ("filename,text\na.png,but he, too, left\nb.png,1,250,000\nc.png,well ,\nd.png,one\n",
     ["but he, too, left", "1,250,000", "well ,", "one"], []),
    ("a.png,one\nb.png,two, three\n", ["one", "two, three"], []),
    ("id,path,text\n1,a.png,x, y\n", ["x, y"], []),
    ('path,label\na.png,he said, "no", then left\n', ['he said, "no", then left'], []),
    # Anywhere else: rejected.
    ('path,label\na.png,"but he", too\nb.png,X\n', ["X"], [2]),
    ("label,path\nx, y,a.png\nX,b.png\n", ["X"], [2]),
    ("path,notes,label\na.png,some, notes,X\nb.png,,Y\n", ["Y"], [2]),
    ("path,label,split\na.png,x, y,train\nb.png,X,train\n", ["X"], [2]),
    ("a.png,LABEL,train\nb.png,x, y\n", [], [1, 2]),
])
def test_more_fields_than_expected(content, labels, rejected):
    rows, bad = read(content, "csv")
    assert [label for _, _, label in rows] == labels
    assert bad == [(number, "too many fields") for number in rejected]


def test_a_second_tab():
    assert read("path\tlabel\na.png\tone\ttwo\nb.png\tX\t\n", "tsv") == (
        [(2, "a.png", "one\ttwo"), (3, "b.png", "X\t")], []), "tabs inside are rejected later, those at ends stripped"
    assert read("a.png\tone\ttwo\n", "tsv") == ([], [(1, "too many fields")])
    assert read("path\tlabel\tsplit\na.png\tone\ttwo\ttrain\n", "tsv") == ([], [(2, "too many fields")])


@pytest.mark.parametrize("end", ["", '30.png,"again', '30.png,again"'])
def test_a_lone_quote_costs_only_its_own_row(end):
    rows = [f"{k}.png,N{k}" for k in range(40)]
    lines = ["path,label", *rows[:5], '5.png,"open', *rows[6:30], *([end] if end else []), *rows[31:]]
    rows, rejected = read("\n".join(lines), "csv")
    bad = [7, 32] if end.endswith("again") else [7]
    assert rejected == [(number, "bad CSV") for number in bad]
    numbers = [number for number, _, _ in rows]
    assert sorted(numbers + bad) == list(range(2, len(lines) + 1)) and numbers == sorted(numbers)
    assert all(label == ('again"' if path == "30.png" else f"N{path[:-4]}") for _, path, label in rows)


def test_quoted_fields_that_end_may_hold_line_breaks():
    content = 'path,notes,label\na.png,"two\nlines, a photo",ONE\n"b.png","x\n\ny","TWO"\nc.png,"\nd.png,,LAST\n'
    assert read(content, "csv") == ([(2, "a.png", "ONE"), (4, "b.png", "TWO"), (8, "d.png", "LAST")], [(7, "bad CSV")])


@pytest.mark.parametrize("content", [
    "path;label\na.png;x, y\n", "a.png;x, y\n", "sep=;\npath;label\na.png;x, y\n", "label|path\nx, y|a.png\n",
    'path,label\na.png,"x, y"\npath,label\n', "filename,words\na.png,x, y\n", '"image";"Wort"\n"a.png";"x, y"\n',
    "\ufeffpath,label\n\ufeffa.png,\"x, y\"\n", 'path, label\na.png, "x, y"\n',
])
def test_delimiters_and_headers(content):
    rows, rejected = read(content, "csv")
    assert [(path, label) for _, path, label in rows] == [("a.png", "x, y")] and not rejected


def test_a_header_that_does_not_name_the_labels():
    with pytest.raises(UserError, match="filename, region, plate.* does not tell .* name that column label"):
        read("filename, region, plate\na.png,EU,X\n", "csv")


@pytest.mark.parametrize("line, label", [
    ('word_1.png, "TEXT"', "TEXT"), ('word_1.png, "say \\"x\\", y"', 'say "x", y'),
    ('word_1.png,"say ""x"""', 'say "x"'),
    ('word_1.png, "a\\\\b"', "a\\b"), ("word_1.png, two, words", "two, words"), ('word_1.png, "', '"'),
    ("word_1.png;TEXT", "TEXT"), ("word_1.png , TEXT", ", TEXT"), ("word_1.png TEXT, b.png, x", "TEXT, b.png, x"),
    ('"word_1.png", "TEXT"', "TEXT"), ("word_1.png\t\"TEXT\"", '"TEXT"'),
])
def test_lists_with_commas(line, label):
    assert read(f"\ufeffname of a file\n{line}\n", "lines")[0][-1] == (2, "word_1.png", label)
    assert read(f"filename words\n{line}\n", "lines") == ([(2, "word_1.png", label)], [])


def test_quotes_within_quotes_are_ambiguous():
    assert read('a.png, "one" or "two"\nb.png, X\n', "lines") == ([(2, "b.png", "X")], [(1, "bad quotes")])


def test_icdar_lists_named_csv():
    assert read('a.png, "say \\"x\\""\nb.png, "TEXT"\n', "csv") == ([(1, "a.png", 'say "x"'), (2, "b.png", "TEXT")], [])


TEXT = "a.png\tÜ 字\r\nb.png\tB\r\n"
ROWS = [(1, "a.png", "Ü 字"), (2, "b.png", "B")]


@pytest.mark.parametrize("content", [
    TEXT.encode("utf-8-sig"), TEXT.encode("utf-16"), codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    TEXT.encode("utf-16-le"), TEXT.encode("utf-16-be"), TEXT.replace("\r\n", "\r").encode(),
    TEXT.replace("\r\n", "\r\r\n").encode(), TEXT.replace("\r\n", "\r").encode("utf-16"),
    TEXT.replace("b.png", "\ufeffb.png").encode(), TEXT.replace("b.png", "\ufeffb.png").encode("utf-16"),
], ids=range(10))
@pytest.mark.parametrize("input_format", ["lines", "tsv"])
def test_encodings_and_line_ends(content, input_format):
    assert read(content, input_format) == (ROWS, [])


def test_encodings_beyond_the_first_chunk():
    text = "".join(f"images/{k}.png\tlabel {k}\n" for k in range(9000))
    for content in (text.encode("utf-16"), text.replace("\n", "\r").encode(), text.encode() + text.encode("utf-8-sig")):
        rows, rejected = read(content, "lines")
        assert not rejected and [number for number, _, _ in rows] == list(range(1, len(rows) + 1))
        assert [(path, label) for _, path, label in rows[:9000]] == [
            (f"images/{k}.png", f"label {k}") for k in range(9000)]
    assert read("a.png\tX\n".encode("utf-16-le") + b"a", "lines") == ([(1, "a.png", "X")], [(2, "not UTF-8")])


@pytest.mark.parametrize("start, told", [
    (b"PK\x03\x04", "a zip archive or a spreadsheet"), (b"\x1f\x8b\x08", "compressed with gzip"),
    (b"\x89PNG\r\n", "is an image"), ("a".encode("utf-32"), "UTF-32; save it as UTF-8")])
def test_what_is_no_text_is_one_fault(start, told):
    with pytest.raises(UserError, match=told):
        read(start + b"\n\n\n", "csv")


@pytest.mark.parametrize("document", [
    {"a.png": "A", "b.png": "B"}, [{"image": "a.png", "label": "A"}, {"file_name": "b.png", "text": "B"}],
    {"labels": {"a.png": "A", "b.png": "B"}}, {"a.png": {"label": "A"}, "b.png": {"text": "B", "size": [1, 2]}},
    [["a.png", "A"], ["b.png", "B"]], {"info": {}, "data_list": [{"img_path": "a.png", "text": "A"},
                                                                   {"img_path": "b.png", "text": "B"}]},
    {"0": {"image": "a.png", "label": "A"}, "1": {"image": "b.png", "label": "B"}},
])
@pytest.mark.parametrize("indent", [None, 1, 4])
@pytest.mark.parametrize("input_format", ["json", "jsonl"])
def test_json_documents(document, indent, input_format):
    text = "\ufeff" + json.dumps(document, indent=indent)
    assert read(text, input_format) == ([(1, "a.png", "A"), (2, "b.png", "B")], [])


def test_json_items_that_are_no_rows():
    text = '{"a.png": "A",\n "a.png": "OTHER",\n "b.png": 7, "c.png": {"polygons": [[1, 2]]}, "d.png": "D"}'
    assert read(text, "json") == ([(1, "a.png", "A"), (2, "a.png", "OTHER"), (5, "d.png", "D")],
                                  [(3, "no label field"), (4, "no label field")])
    with pytest.raises(UserError, match="-: .*delimiter: line 3 column"):
        read('{\n "a.png": "A"\n "b.png": "B"\n}', "json")
