"""`aocr calibrate`: the fit of the temperature, and what the commands do with it."""

import json
import math
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from helpers import printed, relabel, train

from aocr.calibration import LEAST, MOST, calibrated
from aocr.cli import main
from aocr.data.records import to_example
from aocr.evaluation.temperature import fit_temperature, negative_log_likelihood


def test_the_fit_of_equal_probabilities():
    """Of 10 texts with probability 0.5, 8 are right. They count as 9/10, the others as 1/4: the mean is 0.77."""
    found = fit_temperature([0.5] * 10, [True] * 8 + [False] * 2)
    assert 0.5 ** (1.0 / found) == pytest.approx(0.77, rel=1e-6)


def test_the_fit_finds_the_temperature_that_spoilt_the_probabilities():
    random = np.random.default_rng(1)
    true = random.uniform(0.0, 1.0, 20_000)
    right = random.uniform(size=true.size) < true
    for temperature in (0.4, 3.0):
        assert fit_temperature(true ** temperature, right) == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("probabilities, right", [([0.0, 1.0], [True, False]), ([math.nan, 1e-320], [False, True]),
                                                  ([1.0], [True]), ([0.0], [False])])
def test_the_fit_of_extremes_is_within_the_limits(probabilities, right):
    assert LEAST <= fit_temperature(probabilities, right) <= MOST
    assert math.isfinite(negative_log_likelihood(probabilities, right, 1.0))


def test_the_loss_of_a_calibration():
    """0.25 is 0.5 at a temperature of 2: a right and a wrong text cost ln 2 each."""
    assert negative_log_likelihood([0.25, 0.25], [True, False], 2.0) == pytest.approx(math.log(2.0))


def test_the_map_keeps_the_ends_and_has_an_inverse():
    values = np.array([0.0, 1e-9, 0.3, 1.0])
    assert calibrated(values, 5.0)[[0, 3]].tolist() == [0.0, 1.0] and (np.diff(calibrated(values, 5.0)) > 0.0).all()
    np.testing.assert_allclose(calibrated(calibrated(values, 5.0), 1 / 5.0), values)
    assert calibrated(0.3, 1.0) == 0.3


def read(model_dir, images, capsys):
    """Returns ([texts], [probabilities]) of `aocr predict`."""
    assert main(["predict", "--model-dir", model_dir, "--log-path", "", *images]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    return [row[2] for row in rows], [float(row[1]) for row in rows]


def test_a_model_is_calibrated_and_training_forgets_it(trained, tmp_path, capsys):
    model_dir = str(tmp_path / "model")
    shutil.copytree(trained.model_dir, model_dir)
    texts, probabilities = read(model_dir, trained.images, capsys)
    labels = [*trained.labels[:3], "X", "Y"]  # the last two texts count as wrong
    dataset = relabel(trained.dataset, tmp_path / "wrong.tfrecords", labels)
    assert main(["calibrate", dataset, "--model-dir", model_dir, "--log-path", ""]) == 0
    captured = capsys.readouterr()
    assert "only 5 samples" in captured.err
    values = printed(captured.out)
    temperature, stored = float(values["temperature"]), json.loads((tmp_path / "model" / "model.json").read_text())
    assert temperature == pytest.approx(stored["temperature"], abs=1e-6) and temperature < 1.0
    assert float(values["nll"]) < float(values["nll_before"])
    after = read(model_dir, trained.images, capsys)
    assert after[0] == texts
    np.testing.assert_allclose(after[1], np.array(probabilities) ** (1.0 / temperature), atol=1e-5)
    assert main(["test", dataset, "--model-dir", model_dir, "--log-path", ""]) == 0
    tested = printed(capsys.readouterr().out)
    assert tested["temperature"] == values["temperature"]
    assert tested["calibration_error"] == values["calibration_error"]
    assert tested["calibration_error_before"] == values["calibration_error_before"]

    assert train(trained.dataset, model_dir, "--attn-num-hidden", "64", "--max-steps", "1") == 0
    assert "the temperature is dropped" in capsys.readouterr().err
    assert json.loads((tmp_path / "model" / "model.json").read_text())["temperature"] == 1.0


@pytest.mark.parametrize("images, message", [([], "the dataset is empty"), ([b"broken"], "none of the 1 records")])
def test_a_dataset_without_samples_is_an_error(trained, tmp_path, capsys, images, message):
    path = str(tmp_path / "images.tfrecords")
    with tf.io.TFRecordWriter(path) as writer:
        for image in images:
            writer.write(to_example(image, "A1").SerializeToString())
    assert main(["calibrate", path, "--model-dir", trained.model_dir, "--log-path", ""]) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
