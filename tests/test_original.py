"""Checkpoints of the original: one written here in its layout, and one that it trained.

The latter is not part of this project, so its tests skip if it is absent.
"""

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

beside = pytest.mark.skipif(not CHECKPOINT.exists(), reason="no checkpoint of the original beside the project")

U, FEATURES, IDS, EMBEDDING = 8, 512, 39, 10  # units; ids of 0-9, A-Z, padding, GO, EOS
GO, EOS, SEVEN, A = 1, 2, 10, 13


def written_here(directory):
    """Writes a checkpoint in the original's layout whose decoder answers GO with 7, 7 with A and A with EOS."""
    decoder, attention = "embedding_attention_decoder", "embedding_attention_decoder/attention_decoder"
    cell = f"{attention}/multi_rnn_cell/cell_0/basic_lstm_cell"
    zeros = {f"{attention}/Attention_0/weights": [4 * U, 4 * U], f"{attention}/Attention_0/biases": [4 * U],
             f"{attention}/AttnW_0": [1, 1, 4 * U, 4 * U], f"{attention}/AttnV_0": [4 * U],
             f"{attention}/AttnOutputProjection/weights": [5 * U, IDS],
             f"{attention}/AttnOutputProjection/biases": [IDS], f"{attention}/biases": [U],
             f"{attention}/weights": [EMBEDDING + 4 * U, U], f"{decoder}/embedding": [IDS, EMBEDDING],
             f"{cell}/kernel": [2 * U, 4 * U], f"{cell}/bias": [4 * U], "Variable": []}
    for direction in ("fw", "bw"):
        zeros |= {f"bidirectional_rnn/{direction}/basic_lstm_cell/kernel": [FEATURES + 2 * U, 8 * U],
                  f"bidirectional_rnn/{direction}/basic_lstm_cell/bias": [8 * U]}
    channels = 1
    for k, (filters, size) in enumerate([(64, 3), (128, 3), (256, 3), (256, 3), (512, 3), (512, 3), (512, 2)], 1):
        zeros[f"conv_conv{k}/W"] = [size, size, channels, filters]
        channels = filters
    for k, filters in ((3, 256), (5, 512), (7, 512)):
        zeros |= {f"conv_conv{k}/batch_normalization/{name}": [filters]
                  for name in ("beta", "gamma", "moving_mean", "moving_variance")}
    values = {name: np.zeros(shape, np.float32) for name, shape in zeros.items()}
    chain = ((GO, SEVEN), (SEVEN, A), (A, EOS))
    for unit, (before, after) in enumerate(chain):  # a unit for each character that is read
        values[f"{decoder}/embedding"][before, unit] = 1.0
        values[f"{attention}/weights"][unit, unit] = 1.0
        values[f"{attention}/AttnOutputProjection/weights"][unit, after] = 10.0
    # Gates i, j, f, o: the cell takes its input (j) alone, and forgets what was.
    values[f"{cell}/kernel"][:U, U:2 * U] = 20.0 * np.eye(U)
    values[f"{cell}/bias"][:] = np.repeat([20.0, 0.0, -40.0, 20.0], U)
    with tf.Graph().as_default(), tf.Session() as session:
        variables = {name: tf.Variable(value, name=name) for name, value in values.items()}
        session.run(tf.global_variables_initializer())
        tf.train.Saver(variables).save(session, os.path.join(directory, "model.ckpt"), global_step=7)


def test_a_checkpoint_of_that_layout_is_read(tmp_path, words, capsys):
    written_here(str(tmp_path))
    flags = ["--model-dir", str(tmp_path), "--attn-num-hidden", str(U), "--log-path", ""]
    assert main(["predict", *flags, words.images[0]]) == 0
    path, probability, text = capsys.readouterr().out.rstrip("\n").split("\t")
    assert (path, text) == (words.images[0], "7A") and float(probability) > 0.9
    assert main(["predict", *flags, "--attn-num-layers", "3", words.images[0]]) == 2
    assert "trained with --attn-num-layers 2, not 3" in capsys.readouterr().err
    assert main(["train", "x", *flags, "--max-steps", "1"]) == 1
    assert "training cannot resume from a checkpoint that the original aocr wrote" in capsys.readouterr().err


def test_its_characters_are_described_by_attention(tmp_path, words, dataset, capsys):
    """Edges are fractions of the image, not of the canvas of 86 columns that the original pads it to."""
    written_here(str(tmp_path))
    images = [Path(path).read_bytes() for path in words.images]
    with find_model(str(tmp_path), {"attn_num_hidden": U}).open(details=True) as model:
        readings = model.read_images(images, details=True)
        with model.graph.as_default():
            drawn = model.network.as_drawn(model.inputs.images, tf.reshape(model.inputs.encoded, [-1])).widths
        widths = model.session.run(drawn, {model.inputs.encoded: images})
    assert widths.tolist() == [min(width, 86) for width in words.widths] and widths.min() < 86
    for reading in readings:
        seven, a = reading.characters
        assert (seven.text, a.text) == ("7", "A") and min(seven.confidence, a.confidence) > 0.9
        assert 0.0 <= seven.left <= seven.right <= a.left <= a.right <= 1.0
    assert main(["calibrate", dataset, "--model-dir", str(tmp_path), "--log-path", ""]) == 1
    assert "no model.json to store a temperature in" in capsys.readouterr().err


@pytest.fixture(scope="module")
def recorded():
    """The original's recorded answers for its images: list of dict."""
    return json.loads((CHECKPOINT / "recorded.json").read_text())


@beside
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


@beside
def test_predict_takes_the_flags_it_was_trained_with(recorded, capsys):
    paths = [str(CHECKPOINT / "images" / entry["image"]) for entry in recorded[:9]]
    assert main(["predict", "--model-dir", str(CHECKPOINT), *FLAGS, *paths]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[2] for row in rows] == [entry["prediction"] for entry in recorded[:9]]


@beside
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


@beside
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


@beside
def test_training_does_not_go_on_from_it(tmp_path, dataset, capsys):
    for name in os.listdir(CHECKPOINT):
        if name != "images":
            (tmp_path / name).write_bytes((CHECKPOINT / name).read_bytes())
    before = sorted(os.listdir(tmp_path))
    assert main(["train", dataset, "--model-dir", str(tmp_path), "--log-path", ""]) == 1
    assert "the original aocr wrote" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == before
