"""The statistics of a dataset, and its contact sheet."""

import collections
import io
import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from aocr.cli import main
from aocr.data.duplicates import Duplicates
from aocr.data.records import to_example
from aocr.tasks.inspect import _summary


def file_of(width, height, shade, format="PNG"):
    stream = io.BytesIO()
    Image.fromarray(np.full((height, width), shade, np.uint8)).save(stream, format)
    return stream.getvalue()


@pytest.fixture
def dataset(tmp_path):
    """Six records: one cannot be decoded, one occurs twice, and once more with another label."""
    path = str(tmp_path / "data")
    rows = [(file_of(64, 32, 1), "ab"), (b"no image", "xyz"), (file_of(31, 16, 2, "JPEG"), "a"),
            (file_of(64, 32, 1), "ab"), (file_of(64, 32, 1), "\u017f"), (file_of(7, 64, 3), "")]
    with tf.io.TFRecordWriter(path) as writer:
        for image, label in rows:
            writer.write(to_example(image, label).SerializeToString())
    return path


def test_the_facts_as_json(dataset, capsys):
    assert main(["inspect", dataset, "--json", "--log-path", ""]) == 0
    captured = capsys.readouterr()
    facts = json.loads(captured.out)
    assert (facts["records"], facts["used"], facts["unreadable"]) == (6, 5, {
        "1": "the image cannot be decoded: not a supported image (PNG, JPEG, GIF, BMP or WebP)"})
    assert facts["label_lengths"] == {"0": 1, "1": 2, "2": 2} and facts["empty_labels"] == 1
    assert facts["characters"] == {"a": 3, "b": 2, "\u017f": 1}
    assert facts["rare_characters"]["\u017f"] == {"labels": 1, "record": 4, "label": "\u017f"}
    assert facts["widths_at_height_32"] == {"1": 1, "33": 4} and facts["widest"] == 64
    assert facts["heights"] == {"least": 16, "median": 32, "greatest": 64}
    assert facts["images"] == {"PNG L": 4, "JPEG L": 1}
    assert (facts["copies"], facts["copies_with_other_labels"]) == (2, 1)
    assert facts["flags"] == "--max-width 160 --max-height 60 --max-prediction 8"
    assert "records 0 and 4 have the same image but different labels" in captured.err


def test_invisible_characters_are_shown_by_code_point(tmp_path, capsys):
    path = str(tmp_path / "data")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(to_example(file_of(64, 32, 1), "a\u200b \xa0b").SerializeToString())
    assert main(["inspect", path, "--log-path", "", "--sheet", str(tmp_path / "sheet.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  ' ' 1  a 1  b 1  <U+00A0> 1  <U+200B> 1" in lines
    assert "  <U+200B> (U+200B): 1, first in 'a\\u200b \\xa0b' (record 0)" in lines


def test_the_facts_by_graphemes(tmp_path, capsys):
    path = str(tmp_path / "data")
    with tf.io.TFRecordWriter(path) as writer:
        for label in ("न्दी" * 9, "e\u0301", "ab"):
            writer.write(to_example(file_of(64, 32, 1), label).SerializeToString())
    assert main(["inspect", path, "--json", "--graphemes", "--log-path", ""]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["label_lengths"] == {"1": 1, "2": 1, "9": 1}
    assert facts["characters"] == {"a": 1, "b": 1, "e\u0301": 1, "न्दी": 1}
    assert facts["flags"] == "--max-width 160 --max-height 60 --max-prediction 9 --graphemes"
    assert main(["inspect", path, "--graphemes", "--log-path", ""]) == 0
    assert "  न्दी (U+0928 U+094D U+0926 U+0940): 1, first in" in capsys.readouterr().out


@pytest.mark.parametrize("counts", [{5: 1}, {5: 1, 7: 1}, {5: 2, 7: 1}, {5: 1, 7: 2}, {9: 3, 2: 3}, {9: 2, 2: 3, 4: 1},
                                    {1: 1, 2: 1, 3: 1, 4: 1}, {3: 10**12, 8: 10**12 + 1}])
def test_the_median_is_the_middle_one_or_of_two_the_larger(counts):
    counter = collections.Counter(counts)
    summary = _summary(counter)
    if counter.total() < 100:
        every = sorted(counter.elements())
        assert summary == dict(least=every[0], median=every[len(every) // 2], greatest=every[-1])
    else:
        assert summary == dict(least=3, median=8, greatest=8)


def test_the_facts_for_people_and_a_sheet(dataset, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    assert main(["inspect", dataset, "--sheet", str(sheet), "--count", "3", "--log-path", ""]) == 0
    out = capsys.readouterr().out
    assert "records: 6\nused: 5\nunreadable: 1\n" in out
    assert "duplicate images: 2, 1 with different labels" in out
    assert "  33 to 64         4  " + "#" * 40 in out
    assert "\u017f (U+017F): 1, first in '\u017f' (record 4)" in out
    with Image.open(sheet) as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape == (6 + 88, 6 + 4 * 306)
    cells = [pixels[6:94, 6 + 306 * k:306 * (k + 1)] for k in range(4)]
    assert [len(np.unique(cell)) > 2 for cell in cells] == [True, True, True, False]


def test_a_sheet_that_cannot_be_written(dataset, capsys):
    assert main(["inspect", dataset, "--sheet", "/no/such/folder/sheet.png", "--log-path", ""]) == 1
    assert "/no/such/folder/sheet.png: cannot be written" in capsys.readouterr().err


def test_duplicates():
    random = np.random.default_rng(1)
    images = [random.bytes(32) for _ in range(300)]
    with Duplicates() as duplicates:
        for number, image in enumerate(images + images[:10]):
            label = b"another!" if number in (301, 305) else b"12345678"
            duplicates.add(image, label, number % 2, number)
        assert duplicates.copies() == 10
        assert sorted(duplicates.conflicts()) == [((1, 301), (1, 1)), ((1, 305), (1, 5))]
