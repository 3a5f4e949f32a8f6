"""The curves of a training run: parsing its history, and drawing."""

import builtins
import importlib.util
import json
import math
import os

import numpy as np
import pytest
from PIL import Image

from aocr.errors import UserError
from aocr.evaluation.curves import draw_curves, read_history

drawn = pytest.mark.skipif(not importlib.util.find_spec("matplotlib"),
                           reason="matplotlib is not installed: pip install 'aocr[plots]'")


def train(step, loss=1.0, **more):
    return json.dumps(dict(kind="train", step=step, loss=loss, gradient_norm=2.0, learning_rate=0.5,
                           images_per_second=40.0, **more))


def validation(step, loss=2.0, **more):
    metrics = dict(exact_match=0.75, accuracy=0.875, cer=0.25, wer=0.5, mean_probability=0.625, loss=loss)
    return json.dumps(dict(metrics, kind="validation", step=step, **more))


@pytest.fixture
def history(tmp_path):
    """Writes a history: `history(*lines)` returns its path."""
    def write(*lines, end="\n"):
        (tmp_path / "history.jsonl").write_text("\n".join(lines) + end)
        return str(tmp_path / "history.jsonl")

    return write


def test_what_a_history_holds(history):
    read = read_history(history(train(10, 3.5), train(20, 3), validation(20), train(30, 2)))
    assert read == {
        "train": {"step": [10, 20, 30], "loss": [3.5, 3.0, 2.0], "learning_rate": [0.5] * 3},
        "validation": {"step": [20], "exact_match": [0.75], "accuracy": [0.875], "cer": [0.25], "wer": [0.5],
                       "mean_probability": [0.625], "loss": [2.0]}}


def test_a_history_of_fewer_metrics_is_read(history):
    line = json.dumps(dict(kind="validation", step=20, loss=2.0, cer=0.25, exact_match=0.75))  # as 0.10.0 wrote it
    found = read_history(history(line))["validation"]
    assert (found["cer"], found["exact_match"]) == ([0.25], [0.75])
    assert math.isnan(found["wer"][0])


def test_a_resumed_run_replaces_what_it_does_again(history):
    read = read_history(history(train(10, 1), train(20, 2), validation(20, 3), train(30, 4), validation(40, 5),
                                train(20, 6), train(25, 7)))
    assert (read["train"]["step"], read["train"]["loss"]) == ([10, 20, 25], [1, 6, 7])
    assert (read["validation"]["step"], read["validation"]["loss"]) == ([20], [3])


def test_a_roll_back_to_the_start_leaves_nothing_of_before(history):
    read = read_history(history(train(10), validation(10), train(20), validation(5, 9)))
    assert read["train"]["step"] == [] and read["validation"]["loss"] == [9]


def test_the_last_line_of_a_step_counts(history):
    read = read_history(history(train(10, 1), validation(10, 2), train(10, 3), validation(10, 4)))
    assert (read["train"]["loss"], read["validation"]["loss"]) == ([3], [4])


@pytest.mark.parametrize("line", [
    "", "   ", "{", '{"kind": "train", "st', "[1]", "7", '"train"', "{}", '{"kind": "train"}',
    '{"kind": [], "step": 7}',
    '{"kind": "train", "step": "7"}', '{"kind": "train", "step": 7.5}', '{"kind": "train", "step": true}',
    '{"kind": "test", "step": 7, "loss": 1}', "[" * 100000,
    '{"kind": "train", "step": ' + "7" * 5000 + "}",
])
def test_lines_that_are_not_understood_are_passed_over(history, line):
    read = read_history(history(train(10), line, train(20), line, end=""))
    assert read["train"]["step"] == [10, 20]


def test_values_that_are_no_numbers_are_gaps(history):
    read = read_history(history(
        '{"kind": "train", "step": 1, "loss": NaN, "learning_rate": "high", "more": [{}]}',
        '{"kind": "train", "step": 2, "loss": Infinity, "learning_rate": null}',
        '{"kind": "train", "step": 3, "loss": 1' + "0" * 400 + '}', train(4)))
    assert read["train"]["step"] == [1, 2, 3, 4]
    assert list(map(math.isnan, read["train"]["loss"])) == [True, True, True, False]
    assert list(map(math.isnan, read["train"]["learning_rate"])) == [True, True, True, False]


def colors_of(path, band):
    """Counts the pixels of each line's colour in a band (shares of the height)."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), int)
    pixels = pixels[int(band[0] * len(pixels)):int(band[1] * len(pixels))]
    named = {"blue": (0x1f, 0x77, 0xb4), "orange": (0xff, 0x7f, 0x0e), "green": (0x2c, 0xa0, 0x2c),
             "red": (0xd6, 0x27, 0x28)}
    return {name: int((np.abs(pixels - color).max(axis=2) < 40).sum()) for name, color in named.items()}


@drawn
def test_the_curves(history, tmp_path):
    lines = [line for step in range(10, 1010, 10) for line in
             [train(step, 10 * 0.99 ** step), *([validation(step, 8)] if step % 100 == 0 else [])]]
    output = str(tmp_path / "curves.png")
    draw_curves(history(*lines), output)
    with Image.open(output) as image:
        assert (image.format, image.size) == ("PNG", (1000, 900))
    top, middle, bottom = (colors_of(output, band) for band in ((0.04, 0.36), (0.41, 0.73), (0.79, 0.94)))
    assert min(top["blue"], top["orange"]) > 200 > 0 == top["green"] == top["red"]
    assert min(middle["green"], middle["red"]) > 200 > 0 == middle["blue"] == middle["orange"]
    assert bottom["blue"] > 200 > 0 == bottom["green"] == bottom["red"]


@drawn
@pytest.mark.parametrize("lines", [[], [train(0, 0.0)], [train(1, -1.0), validation(1, float("nan"))],
                                   [train(5)], [validation(2**62)]])
@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")  # Matplotlib's and NumPy's
def test_a_history_of_little_or_nothing_is_drawn(history, tmp_path, lines):
    draw_curves(history(*lines), str(tmp_path / "curves.png"))
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1000, 900)


@drawn
def test_earlier_curves_stay_until_new_ones_are_whole(history, tmp_path):
    (tmp_path / "curves.png").write_bytes(b"earlier")
    with pytest.raises(UserError, match="no-history.jsonl: cannot be read: No such file"):
        draw_curves(str(tmp_path / "no-history.jsonl"), str(tmp_path / "curves.png"))
    assert (tmp_path / "curves.png").read_bytes() == b"earlier"
    draw_curves(history(train(1)), str(tmp_path / "curves.png"))
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert sorted(os.listdir(tmp_path)) == ["curves.png", "history.jsonl"]


@drawn
def test_curves_that_cannot_be_written(history, tmp_path):
    output = str(tmp_path / "no" / "folder" / "curves.png")
    with pytest.raises(UserError, match="curves.png: cannot be written"):
        draw_curves(history(train(1)), output)


def test_without_matplotlib_the_caller_is_told(history, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="matplotlib"):
        draw_curves(history(train(1)), str(tmp_path / "curves.png"))
    assert os.listdir(tmp_path) == ["history.jsonl"]
