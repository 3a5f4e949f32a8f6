"""Scanning of intact and broken datasets."""

import gzip
import io
import json
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from helpers import train
from PIL import Image

from aocr.cli import main
from aocr.data import scanning
from aocr.data.formats import read_rows
from aocr.data.lengths import masked_crc
from aocr.data.records import numbered_records, parse_example, to_example
from aocr.data.scanning import Seen, read_sidecar, scan, write_sidecar
from aocr.errors import UserError

NO_IMAGE = "the image cannot be decoded: not a supported image (PNG, JPEG, GIF, BMP or WebP)"


def png(width, height):
    """Returns an encoded image of this size."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width), np.uint8)).save(file, "PNG")
    return file.getvalue()


def write(path, examples):
    """Writes records (tf.train.Example or bytes) and returns the path."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            writer.write(example if isinstance(example, bytes) else example.SerializeToString())
    return str(path)


def test_scan_finds_what_there_is(tmp_path):
    path = write(tmp_path / "data", [
        to_example(png(160, 60), "AB"),  # 85.33 -> 85 wide at height 32
        to_example(png(30, 64), "ÄB", "with a comment"),  # 15
        to_example(b"no image", "AB"),
        to_example(png(64, 30), ""),  # 68.27 -> 68
        to_example(png(1, 100), "ABC"),  # 0.32 -> 1
    ])
    found = scan(path)
    assert (found.records, found.usable, found.unreadable) == (5, 4, {2: NO_IMAGE})
    assert found.widths == {85: 1, 15: 1, 68: 1, 1: 1}
    assert found.widest_image == 85 and found.wider_than(15) == 2 and found.wider_than(85) == 0
    assert found.lengths == {2: Seen(2, 0, "AB"), 0: Seen(1, 3, ""), 3: Seen(1, 4, "ABC")}
    assert found.longest_label == 3
    assert found.characters == {"A": Seen(2, 0, "AB"), "B": Seen(3, 0, "AB"), "Ä": Seen(1, 1, "ÄB"),
                                "C": Seen(1, 4, "ABC")}


def test_scan_by_graphemes(tmp_path):
    path = write(tmp_path / "data", [to_example(png(5, 7), "e\u0301a"), to_example(b"no image", "x\u0301"),
                                     to_example(png(5, 7), "aae\u0301\u0323")])
    found = scan(path, graphemes=True)
    assert found.graphemes and found.unreadable == {1: NO_IMAGE}
    assert found.lengths == {2: Seen(1, 0, "e\u0301a"), 3: Seen(1, 2, "aae\u0301\u0323")}
    assert found.characters == {"e\u0301": Seen(1, 0, "e\u0301a"), "a": Seen(2, 0, "e\u0301a"),
                                "e\u0301\u0323": Seen(1, 2, "aae\u0301\u0323")}


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("length", [10**12, 2**64 - 20])
def test_a_length_that_no_record_has_is_refused_before_tensorflow_crashes(compress, length, tmp_path):
    whole = write(tmp_path / "whole", [to_example(png(5, 7), "A")] * 2)
    header = length.to_bytes(8, "little")
    content = Path(whole).read_bytes() + header + masked_crc(header).to_bytes(4, "little") + b"x" * 40
    path = tmp_path / "data.tfrecords"
    path.write_bytes(compress(content))
    message = f"^{path}: broken after 2 records .the next one claims to have {length} bytes"
    with pytest.raises(UserError, match=message):
        scan(str(path))
    with pytest.raises(UserError, match=message):
        list(read_rows(str(path), "tfrecord", re.compile(""), None))


def test_checksums_are_tensorflow_s(tmp_path):
    with open(write(tmp_path / "data", [b"some content"]), "rb") as file:
        length, first, content, second = struct.unpack("<8sI12sI", file.read())
    assert (masked_crc(length), masked_crc(content)) == (first, second)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """Returns the directory of a model that was trained for one step."""
    place = tmp_path_factory.mktemp("untrained")
    assert train(write(place / "data", [to_example(png(5, 7), "A")]), place / "model", "--max-steps", "1") == 0
    return str(place / "model")


@pytest.mark.parametrize("damage", ["middle", "removed", "replaced"])
@pytest.mark.parametrize("run", ["inspect", "augment", "test"])
def test_a_dataset_that_changes_after_the_scan_is_one_line_everywhere(damage, run, tmp_path, monkeypatch, capsys,
                                                                       untrained):
    noise, path = np.random.default_rng(1).bytes(2000), tmp_path / "data.tfrecords"
    write(path, [to_example(png(5, 7), "A", noise.hex())] * 9)

    def changed(*arguments, scan=scanning.scan, **options):
        found = scan(*arguments, **options)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        if damage == "middle":
            path.write_bytes(content)
        elif damage == "removed":
            path.unlink()
        else:
            write(path, [b"no example"] * 9)
        return found

    monkeypatch.setattr(scanning, "scan", changed)
    arguments = {"inspect": [], "augment": [str(tmp_path / "sheet.png")], "test": ["--model-dir", untrained]}
    assert main([run, str(path), *arguments[run], "--log-path", ""]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"aocr: error: {path}") and "Traceback" not in error


@pytest.mark.parametrize("kind", ["fifo", "directory", "sidecar"])
def test_what_is_no_file_is_not_read(kind, tmp_path, caplog):
    path = tmp_path / "data"
    if kind == "fifo":
        os.mkfifo(path)
        with pytest.raises(UserError, match=f"^{path}: not a regular file"):
            scan(str(path))
    elif kind == "directory":
        path.mkdir()
        with pytest.raises(UserError, match=f"^{path}: no such dataset"):
            scan(str(path))
    else:
        (tmp_path / "data.json").mkdir()
        assert scan(write(path, [to_example(png(5, 7), "A")])).records == 1
        assert "data.json: cannot be read: " in caplog.text


def test_a_label_that_is_not_utf8_is_counted(tmp_path):
    example = to_example(png(5, 7), "X")
    example.features.feature["label"].bytes_list.value[0] = b"caf\xe9"
    found = scan(write(tmp_path / "data", [example, to_example(png(5, 7), "Y")]))
    assert found.unreadable == {0: "the label is not UTF-8: byte 0xe9 at 3"}
    assert found.usable == 1


@pytest.mark.parametrize("content, told", [
    (None, "no such dataset"),
    (b"", "the dataset is empty"),
    (b"this is not a TFRecord file, but a text that is long enough to be read as one", "broken after 0 records"),
])
def test_what_is_no_dataset_is_one_clear_error(tmp_path, content, told):
    path = tmp_path / "data"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=told):
        scan(str(path))


def test_a_truncated_dataset_says_where(tmp_path):
    path = write(tmp_path / "data", [to_example(png(5, 7), "X")] * 3)
    whole = (tmp_path / "data").read_bytes()
    (tmp_path / "data").write_bytes(whole[:-9])
    with pytest.raises(UserError, match="broken after 2 records"):
        scan(path)


def test_a_flipped_byte_says_where(tmp_path):
    path = write(tmp_path / "data", [to_example(png(5, 7), "X")] * 3)
    content = bytearray((tmp_path / "data").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "data").write_bytes(bytes(content))
    with pytest.raises(UserError, match="broken after 1 records"):
        scan(path)


def test_many_files_are_one_dataset_plain_or_compressed(tmp_path):
    write(tmp_path / "data-1-of-3", [to_example(png(160, 60), "AB"), to_example(b"no image", "C")])
    with tf.io.TFRecordWriter(str(tmp_path / "data-2-of-3"), "GZIP") as writer:
        writer.write(to_example(png(30, 64), "DEF").SerializeToString())
        writer.write(to_example(b"", "G").SerializeToString())
    write(tmp_path / "data-3-of-3", [to_example(png(5, 7), "H")])
    found = scan(str(tmp_path / "data-?-of-3"))
    assert found.files == [str(tmp_path / f"data-{k}-of-3") for k in (1, 2, 3)]
    assert (found.records, list(found.unreadable)) == (5, [1, 3])
    assert found.lengths == {2: Seen(1, 0, "AB"), 3: Seen(1, 2, "DEF"), 1: Seen(1, 4, "H")}
    labels = numbered_records(found).map(lambda number, record: (number, parse_example(record)["label"]))
    assert list(labels.as_numpy_iterator()) == list(enumerate([b"AB", b"C", b"DEF", b"G", b"H"]))
    assert found.starts == [0, 2, 4]


def test_a_broken_file_among_many_is_named(tmp_path):
    write(tmp_path / "a.tfrecords", [to_example(png(5, 7), "X")])
    with tf.io.TFRecordWriter(str(tmp_path / "b.tfrecords"), "GZIP") as writer:
        writer.write(to_example(png(5, 7), "X").SerializeToString())
    cut = (tmp_path / "b.tfrecords").read_bytes()[:-20]
    (tmp_path / "b.tfrecords").write_bytes(cut)
    with pytest.raises(UserError, match="b.tfrecords: broken after 0 records"):
        scan(str(tmp_path / "*.tfrecords"))


def test_a_name_with_brackets_is_still_a_file(tmp_path):
    path = write(tmp_path / "data[1].tfrecords", [to_example(png(5, 7), "X")])
    assert scan(path).files == [path]


def test_records_of_another_kind_say_so(tmp_path):
    other = tf.train.Example(features=tf.train.Features(feature={
        "picture": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x"]))}))
    path = write(tmp_path / "data", [to_example(png(5, 7), "X"), other])
    with pytest.raises(UserError, match="record 1 has no features `image` and `label`"):
        scan(path)


def test_a_record_that_is_cited_in_bytes_that_are_no_text(tmp_path):
    path = write(tmp_path / "data", [to_example(png(5, 7), "X"), b"9\xf5\x80"])
    for look in (scan, lambda path: list(read_rows(path, "tfrecord", None, None))):
        with pytest.raises(UserError, match="record 1 has no features `image` and `label`"):
            look(path)


def test_the_cause_of_a_break_is_told_without_names_of_operations(tmp_path):
    (tmp_path / "data").write_bytes(b"this is not a TFRecord file, but a text that is long enough to be read as one")
    with pytest.raises(UserError) as caught:
        scan(str(tmp_path / "data"))
    assert "{{" not in str(caught.value) and "Op:" not in str(caught.value)


def test_a_comment_that_is_no_text_is_stored_as_one(tmp_path):
    path = write(tmp_path / "data", [to_example(png(5, 7), "X", "\udcff.png")])
    row, = read_rows(path, "tfrecord", None, None)
    assert row.comment == "\\udcff.png"


def test_many_images_that_cannot_be_decoded_are_passed_over_in_one_go(tmp_path, monkeypatch):
    """Without restarting the scan for each of them."""
    path = write(tmp_path / "data", [to_example(b"no image" if k % 2 else png(5, 7), str(k)) for k in range(40)])
    monkeypatch.setattr(tf.data.Dataset, "skip", None)
    found = scan(path)
    assert list(found.unreadable) == list(range(1, 40, 2))
    assert found.characters["8"] == Seen(4, 8, "8")


@pytest.mark.parametrize("change", [
    dict(records=2), dict(records=True), dict(records=3.0), dict(records=-3), dict(widths={"23": 2}),
    dict(widths={"23": "3"}), dict(widths={"-1": 3}), dict(widths=None), dict(lengths={"1": [2, 0, "X"]}),
    dict(lengths={"1": [3, 3, "X"]}), dict(lengths={"1": [3, -1, "X"]}), dict(lengths={"1": [3, 0, 7]}),
    dict(lengths={"1": [3, 0]}), dict(characters={"X": [3.5, 0, "X"]}), dict(characters={"\ud800": [1, 0, "X"]}),
])
def test_a_sidecar_that_contradicts_itself_is_not_believed(tmp_path, caplog, change):
    path = write(tmp_path / "data", [to_example(png(5, 7), "X")] * 3)
    write_sidecar(scan(path), path)
    sidecar = tmp_path / "data.json"
    values = json.loads(sidecar.read_text())
    assert read_sidecar(path).records == 3
    sidecar.write_text(json.dumps({**values, **change}))
    assert read_sidecar(path) is None and "rescanning" in caplog.text
    assert scan(path).records == 3


def test_a_sidecar_that_is_nested_too_deeply(tmp_path, caplog):
    path = write(tmp_path / "data", [to_example(png(5, 7), "X")])
    (tmp_path / "data.json").write_text("[" * 100_000)
    assert scan(path).records == 1 and "nested too deeply" in caplog.text


def test_a_pattern_beside_names_that_are_not_utf_8(tmp_path):
    write(tmp_path / "a-1.tfrecords", [to_example(png(3, 5), "7")])
    (tmp_path / os.fsdecode(b"\xff")).touch()
    assert scan(str(tmp_path / "a-*")).usable == 1
    with pytest.raises(UserError, match="whose name is not UTF-8; rename it or narrow the pattern"):
        scan(str(tmp_path / "*"))
