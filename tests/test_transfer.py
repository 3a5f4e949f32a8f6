"""Models initialized with the weights of others."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from helpers import relabel

from aocr.charset import Charset
from aocr.cli import main
from aocr.data.scanning import DatasetStatistics, Seen
from aocr.errors import UserError
from aocr.training import transfer
from aocr.weights import averaged_name

ORIGINAL = Path(__file__).parent.parent.parent / "shared" / "data" / "original-checkpoint"
SMALL = ["--batch-size", "5", "--log-path", "", "--max-steps", "1"]


def train(dataset, model_dir, *flags):
    """Runs `aocr train`. Returns the exit code."""
    return main(["train", dataset, "--model-dir", str(model_dir), *SMALL, *flags])


def variable(model_dir, name):
    return tf.train.load_variable(str(model_dir), name)


@pytest.fixture(scope="module")
def source(dataset, tmp_path_factory):
    """Returns a model directory to start from, after one step; read-only."""
    model_dir = tmp_path_factory.mktemp("source") / "model"
    assert train(dataset, model_dir, "--attn-num-hidden", "7", "--ema", "0") == 0
    return model_dir


def test_known_characters_keep_their_rows(source, dataset, tmp_path, capsys):
    data = relabel(dataset, tmp_path / "data", ["A", "é", "1", "B", "C"])
    assert train(data, tmp_path / "model", "--init-from", str(source), "--initial-learning-rate", "0", "--ema", "0",
                 "--seed", "5") == 0
    error = capsys.readouterr().err
    assert "took 56 of 56 variables and 36 of 37 characters" in error
    charset = json.loads((tmp_path / "model" / "model.json").read_text())["charset"]
    assert "".join(charset) == "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZé"
    for name, axis in (("decoder/embedding", 0), ("decoder/output/kernel", 1), ("decoder/output/bias", 0)):
        before, after = variable(source, name), variable(tmp_path / "model", name)
        np.testing.assert_array_equal(np.take(after, range(39), axis), before)
        assert after.shape[axis] == 40
    for name, axis in (("ctc/output/kernel", 1), ("ctc/output/bias", 0)):  # the characters' classes, and the blank
        before, after = variable(source, name), variable(tmp_path / "model", name)
        np.testing.assert_array_equal(np.take(after, [*range(36), 37], axis), before)
        assert after.shape[axis] == 38
    for name in ("cnn/conv6/kernel", "decoder/layer0/bias"):
        np.testing.assert_array_equal(variable(tmp_path / "model", name), variable(source, name))


def test_averages_begin_with_the_weights_that_are_taken(source, dataset, tmp_path):
    assert train(dataset, tmp_path, "--init-from", str(source), "--initial-learning-rate", "0", "--ema", "0.9") == 0
    for name in ("cnn/conv6/kernel", "encoder/forward/kernel", "decoder/embedding"):
        np.testing.assert_allclose(variable(tmp_path, averaged_name(name)), variable(source, name), rtol=1e-6)


def test_frozen_parts_stay(source, dataset, tmp_path):
    assert train(dataset, tmp_path, "--init-from", str(source), "--freeze", "cnn,encoder", "--ema", "0") == 0
    for name in ("cnn/conv6/kernel", "cnn/conv7/population_mean", "encoder/forward/kernel"):
        np.testing.assert_array_equal(variable(tmp_path, name), variable(source, name))
    assert not np.array_equal(variable(tmp_path, "decoder/output/kernel"), variable(source, "decoder/output/kernel"))


def test_a_flag_that_contradicts_the_source_names_both(source, dataset, tmp_path, capsys):
    assert train(dataset, tmp_path, "--init-from", str(source), "--attn-num-hidden", "9") == 2
    error = capsys.readouterr().err
    assert "--attn-num-hidden is 9" in error and "has 7" in error


def test_a_directory_without_a_model_is_no_source(dataset, tmp_path, capsys):
    assert train(dataset, tmp_path / "model", "--init-from", str(tmp_path / "none")) == 1
    assert f"{tmp_path}/none: no checkpoint there" in capsys.readouterr().err


class Source:
    """The part of checkpoint.Trained that `charset_of` uses."""

    charset = Charset("BA1")


@pytest.mark.parametrize("change, expected", [("union", "BA1XÄ"), ("new", None)])
def test_alphabets_of_models_that_start_from_others(change, expected):
    scan = DatasetStatistics("data", ["data"], characters=dict.fromkeys("1ÄXB", Seen(1, 0, "")))
    charset = transfer.charset_of(Source, scan, change)
    assert "".join(charset.characters) == (expected or "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZÄ")


def test_another_alphabet_can_be_refused():
    scan = DatasetStatistics("data", ["data"], characters=dict.fromkeys("1ÄXB", Seen(1, 0, "")))
    with pytest.raises(UserError, match="data: contains 2 characters that the model of --init-from lacks \\(XÄ\\)"):
        transfer.charset_of(Source, scan, "fail")


@pytest.mark.skipif(not ORIGINAL.exists(), reason="the original's checkpoint is missing from shared/data")
def test_a_checkpoint_of_the_original_is_a_start(dataset, tmp_path, capsys):
    flags = ["--init-from", str(ORIGINAL), "--initial-learning-rate", "0", "--ema", "0"]
    assert train(dataset, tmp_path, *flags) == 0
    assert "took 36 of 42 variables and 36 of 36 characters" in capsys.readouterr().err
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(ORIGINAL)))
    for ours, name in (
            ("cnn/conv3/kernel", "conv_conv3/W"), ("cnn/conv5/gamma", "conv_conv5/batch_normalization/gamma"),
            ("encoder/backward/kernel", "bidirectional_rnn/bw/basic_lstm_cell/kernel"),
            ("decoder/layer1/bias", "embedding_attention_decoder/attention_decoder/multi_rnn_cell/cell_0/"
                                    "basic_lstm_cell/bias"),
            ("decoder/attention/v", "embedding_attention_decoder/attention_decoder/AttnV_0")):
        np.testing.assert_array_equal(np.squeeze(variable(tmp_path, ours)), reader.get_tensor(name))
