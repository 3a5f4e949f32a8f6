"""Datasets that change while a run reads them."""

import contextlib
import os
import shutil

import pytest
import tensorflow.compat.v1 as tf
from helpers import relabel, train

from aocr.charset import ALPHANUMERIC, Charset
from aocr.config import ModelConfig
from aocr.data import scanning
from aocr.data.pipeline import Source
from aocr.data.scanning import scan
from aocr.errors import UserError
from aocr.graph.text import UNKNOWN
from aocr.inputs import Examples
from aocr.network import Network
from aocr.training import watch
from aocr.training.reports import Reports
from aocr.training.watch import TrainingWatch, Watch

LEAN = ["--ctc-weight", "0", "--guided-attention", "0", "--augment", "none", "--attn-num-layers", "1", "--log-step",
        "1", "--deterministic"]


@pytest.fixture
def data(dataset, tmp_path):
    """A copy of the dataset, to be changed."""
    return shutil.copy(dataset, tmp_path / "data.tfrecords")


def cut(path):
    os.truncate(path, os.path.getsize(path) - 1)


def lengthen(path):
    with open(path, "ab") as file:
        file.write(b"x")


def replace(path):
    """Changes a byte, as a new file."""
    with open(path, "rb") as file:
        content = bytearray(file.read())
    content[len(content) // 2] ^= 1
    os.remove(path)
    with open(path, "wb") as file:
        file.write(content)


@pytest.mark.parametrize("change, told", [
    (cut, ": changed, from {} to {} bytes, while"), (lengthen, ": changed, from {} to {} bytes, while"),
    (replace, ": changed, from {} to {} bytes, while"), (os.remove, ": became unreadable (No such file or directory) "),
])
def test_a_change_is_told_with_the_file(data, change, told):
    before = os.path.getsize(data)
    watched = Watch(scan(str(data)))
    watched.check()
    change(data)
    after = os.path.getsize(data) if os.path.exists(data) else 0
    with pytest.raises(UserError) as caught:
        watched.check()
    assert str(caught.value).startswith(f"{data}{told.format(before, after)}")
    assert str(caught.value).endswith("; start again to use it as it is now, or restore it")


def test_a_file_that_only_has_a_new_date_has_not_changed(data, monkeypatch, caplog):
    watched = Watch(scan(str(data)))
    os.utime(data, (7, 7))
    watched.check()
    assert not caplog.records
    os.utime(data, (8, 8))
    monkeypatch.setattr(watch, "FINGERPRINT_BYTES", 1)  # larger files are not compared as a whole
    watched.check()
    assert "only its length, start and end are known to be the same" in caplog.text


def test_looks_are_seldom_where_they_take_long(data):
    watched = Watch(scan(str(data)))
    watched._took, watched._ended = 1.0, watched._ended + 1e9
    os.remove(data)
    watched.check(seldom=True)
    with pytest.raises(UserError):
        watched.check()


def test_with_all_images_in_memory_a_change_is_only_told(data, caplog):
    watched = TrainingWatch(scan(str(data)), Charset("A"), True)
    watched.look(3)
    watched.sampled = True
    watched.look(4)
    os.remove(data)
    watched.look(5)
    watched.look(6)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == [f"{data}: became unreadable (No such file or directory) while it is in use; the run continues with "
                    "the images in memory"]
    assert watched.changed


def test_until_then_it_is_an_error(data):
    watched = TrainingWatch(scan(str(data)), Charset("A"), True)
    watched.look(3)
    watched.sampled = True
    os.remove(data)
    with pytest.raises(UserError):
        watched.look(4, seldom=True)


def test_characters_that_the_charset_lacks_are_never_padding(data, dataset, tmp_path):
    """Files with records of the same sizes in place of those that were scanned."""
    scanned, charset = scan(str(data)), Charset(ALPHANUMERIC)
    watched = Watch(scanned, charset)
    relabel(dataset, data, ["A1", "B27", "x", "K9é", "WWMW"])
    with tf.Graph().as_default() as graph:
        examples = Examples(Network(ModelConfig(), charset), Source(scanned, 5), shuffled=True)
    session = tf.Session(graph=graph)
    examples.start(session)
    with contextlib.closing(session), pytest.raises(UserError) as caught, watched.explaining():
        session.run(examples.batch.targets)
    assert str(caught.value) == (
        f"{data}: record 2: label 'x': character 'x' (U+0078) is not in the charset; the dataset changed while it was "
        "in use: start again to use it as it is now, or restore it")
    assert UNKNOWN not in str(caught.value)


def test_a_run_names_the_label_that_changed(data, dataset, tmp_path, monkeypatch, capsys):
    def changed(*arguments, scan=scanning.scan, **options):
        found = scan(*arguments, **options)
        relabel(dataset, data, ["A1", "B27", "x", "K90", "WWMW"])
        return found

    monkeypatch.setattr(scanning, "scan", changed)
    assert train(str(data), tmp_path / "model", *LEAN, "--max-steps", "9") == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(
        f"aocr: error: {data}: record 2: label 'x': character 'x' (U+0078) is not in the charset; the dataset changed")


def test_a_run_stops_when_its_data_change(data, dataset, tmp_path, monkeypatch, capsys):
    def changed(self, step, before, report=Reports.step):
        if step.step == 2:
            relabel(dataset, data, ["B1", "A27", "8", "K80", "WMMW"])
        return report(self, step, before)

    monkeypatch.setattr(Reports, "step", changed)
    assert train(str(data), tmp_path / "model", *LEAN, "--steps-per-checkpoint", "2", "--max-steps", "9") == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.splitlines()[-1].startswith(f"aocr: error: {data}: changed, from ")
    assert not os.path.exists(tmp_path / "model" / "checkpoint")
