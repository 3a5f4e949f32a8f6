"""Datasets built with Apache Beam equal those built locally."""

import glob

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from aocr.cli import main

pytest.importorskip("apache_beam", reason="Apache Beam is not installed (pip install '.[beam]')")


@pytest.fixture
def annotations(tmp_path, monkeypatch):
    """Changes to tmp_path, where list.tsv has 40 images, three bad rows and one image with two labels."""
    monkeypatch.chdir(tmp_path)
    rows = []
    for number in range(40):
        Image.fromarray(np.full((7, 5 + number), number, np.uint8)).save(f"{number}.png")
        rows.append(f"{number}.png\tlabel {number % 7}")
    Image.new("CMYK", (9, 9)).save("c.tiff")
    rows += ["c.tiff\tCMYK", "none.png\tX", "no label", "0.png\t\x07", "1.png\tother"]
    (tmp_path / "list.tsv").write_text("\n".join(rows))
    return "list.tsv"


def records(pattern, compression=""):
    """Returns the serialized records of all files, sorted."""
    files = tf.data.TFRecordDataset(glob.glob(pattern), compression)
    return sorted(files.as_numpy_iterator())


@pytest.mark.parametrize("flags, pattern, compression", [
    ([], "{}.tfrecords", ""),
    (["--shards", "3", "--compression", "gzip", "--split", "0.6/0.4"], "{}-*-of-00003.tfrecords", "GZIP"),
])
def test_both_builds_write_the_same_records(annotations, flags, pattern, compression, capsys):
    printed = []
    for name, more in (("local", []), ("beam", ["--runner", "DirectRunner", "--direct_num_workers=1"])):
        assert main(["dataset", annotations, f"{name}.tfrecords", "--log-path", "", "--save-filename",
                     "--rejects", f"{name}.rejects", *flags, *more]) == 0
        printed.append(capsys.readouterr().out.replace("beam", "local"))
    assert printed[0] == printed[1] and "records: 42\nskipped: 3\n" in printed[0]
    local = records(pattern.format("local"), compression)
    assert len(local) == 42 and records(pattern.format("beam"), compression) == local
    with open("local.rejects", "rb") as a, open("beam.rejects", "rb") as b:
        assert sorted(a) == sorted(b)


def test_strict_leaves_nothing(annotations, capsys):
    assert main(["dataset", annotations, "out.tfrecords", "--log-path", "", "--strict", "--runner",
                 "DirectRunner"]) == 1
    error = capsys.readouterr().err
    assert "--strict: " in error and "nothing was written" in error
    assert "duplicate image with a different label" in error
    assert not glob.glob("out*")
