"""A checkpoint that the original trained; it is not part of this project, so these tests skip if it is absent."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from aocr.checkpoint import find_model
from aocr.cli import main

CHECKPOINT = Path(__file__).parent.parent.parent / "shared" / "data" / "original-checkpoint"
GIVEN = {"max_width": 48, "max_height": 32, "max_prediction": 4}
FLAGS = ["--max-width", "48", "--max-height", "32", "--max-prediction", "4", "--log-path", ""]

pytestmark = pytest.mark.skipif(not CHECKPOINT.exists(), reason="no checkpoint of the original beside the project")


@pytest.fixture(scope="module")
def recorded():
    """The original's recorded answers for its images: list of dict."""
    return json.loads((CHECKPOINT / "recorded.json").read_text())


def test_every_text_and_step_maximum_is_the_original_s(recorded):
    images = [(CHECKPOINT / "images" / entry["image"]).read_bytes() for entry in recorded]
    with find_model(str(CHECKPOINT), GIVEN, False).open() as model:
        with model.graph.as_default():
            logits = model.branches.decoder.decode(model.network.decoder_steps).logits
            maxima = tf.reduce_max(tf.nn.softmax(logits), 2)  # [N, T]
        texts, maxima = model.session.run([model.prediction, maxima], {model.inputs.encoded: images})
    assert [text.decode() for text in texts] == [entry["prediction"] for entry in recorded]
    for entry, steps in zip(recorded, maxima):
        np.testing.assert_allclose(steps, entry["step_max_probability"][:len(steps)], atol=1e-4)


def test_predict_takes_the_flags_it_was_trained_with(recorded, capsys):
    paths = [str(CHECKPOINT / "images" / entry["image"]) for entry in recorded[:9]]
    assert main(["predict", "--model-dir", str(CHECKPOINT), *FLAGS, *paths]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[2] for row in rows] == [entry["prediction"] for entry in recorded[:9]]


def test_test_and_export_take_it_too(recorded, capsys, tmp_path):
    annotations = tmp_path / "annotations.txt"
    annotations.write_text("".join(f"{CHECKPOINT / 'images' / entry['image']} {entry['prediction']}\n"
                                   for entry in recorded))
    dataset = str(tmp_path / "dataset")
    assert main(["dataset", str(annotations), dataset, "--log-path", ""]) == 0
    assert main(["test", dataset, "--model-dir", str(CHECKPOINT), *FLAGS]) == 0
    assert "exact_match: 1.000000\n" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "exported"), "--model-dir", str(CHECKPOINT), *FLAGS]) == 0
    with tf.Graph().as_default(), tf.Session() as session:
        tf.saved_model.load(session, ["serve"], str(tmp_path / "exported"))
        image = (CHECKPOINT / "images" / recorded[0]["image"]).read_bytes()
        assert session.run("prediction:0", {"input_image_as_bytes:0": image}).decode() == recorded[0]["prediction"]


@pytest.mark.parametrize("flags, values", [
    (["--full-ascii"], ["39", "98"]),
    (["--graphemes"], ["--graphemes", "True", "False"]),
    (["--color"], ["--color", "True", "False"]),
    (["--attn-num-hidden", "64"], ["--attn-num-hidden", "64", "128"]),
    (["--attn-num-layers", "3"], ["--attn-num-layers", "3", "2"]),
    (["--use-gru"], ["--use-gru", "True", "False"]),
    (["--target-embedding-size", "7"], ["--target-embedding-size", "7", "10"]),
])
def test_flags_it_was_not_trained_with_are_refused(flags, values, capsys):
    assert main(["predict", "--model-dir", str(CHECKPOINT), *FLAGS, *flags, "x.png"]) == 2
    error = capsys.readouterr().err
    assert all(value in error for value in values) and "Traceback" not in error


def test_training_does_not_go_on_from_it(tmp_path, dataset, capsys):
    for name in os.listdir(CHECKPOINT):
        if name != "images":
            (tmp_path / name).write_bytes((CHECKPOINT / name).read_bytes())
    before = sorted(os.listdir(tmp_path))
    assert main(["train", dataset, "--model-dir", str(tmp_path), "--log-path", ""]) == 1
    assert "the original aocr wrote" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == before
