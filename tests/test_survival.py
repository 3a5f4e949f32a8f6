"""Training that is killed, diverges or reads damaged data recovers exactly, or reports why not."""

import dataclasses
import errno
import io
import itertools
import json
import os
import shutil
import signal

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from aocr import checkpoint
from aocr.cli import main
from aocr.data import scanning
from aocr.data.records import to_example
from aocr.errors import UserError
from aocr.evaluation.validations import Validations
from aocr.training import run
from aocr.training.keeping import Keeper
from aocr.training.reports import Reports
from aocr.training.state import RunState
from aocr.training.validation import Validator

# All state that a run could lose: optimizer slots, averages, schedule, dropout, augmentation, accumulated gradients.
RECIPE = ["--attn-num-hidden", "8", "--batch-size", "2", "--accumulate", "2", "--optimizer", "adamw", "--ema", "0.9",
          "--schedule", "cosine", "--warm-up", "2", "--augment", "scene", "--deterministic", "--log-path", "",
          "--max-steps", "6", "--steps-per-checkpoint", "3", "--log-step", "1"]


def train(dataset, model_dir, *flags):
    """Runs `aocr train`. Returns the exit code."""
    return main(["train", dataset, "--model-dir", str(model_dir), *flags])


def variables(checkpoint):
    """Returns {name: value} of a checkpoint, without the run's state."""
    reader = tf.train.load_checkpoint(checkpoint)
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if name != "training/state"}


def state_of(checkpoint):
    """Returns the RunState in a checkpoint, without the elapsed time."""
    text = tf.train.load_checkpoint(checkpoint).get_tensor("training/state").decode()
    return dataclasses.replace(RunState.from_json(text, checkpoint), minutes=0.0)


def as_killed_at(model_dir, step, copy):
    """Copies a model directory as left by a run killed some time after the checkpoint of a step."""
    shutil.copytree(model_dir, copy)
    for name in os.listdir(copy):
        if name.startswith("model.ckpt-") and not name.startswith(f"model.ckpt-{step}."):
            os.remove(os.path.join(copy, name))
    (copy / "checkpoint").write_text(f'model_checkpoint_path: "model.ckpt-{step}"\n'
                                     f'all_model_checkpoint_paths: "model.ckpt-{step}"\n')


def test_a_killed_run_ends_with_the_same_weights(dataset, tmp_path, capsys):
    assert train(dataset, tmp_path / "whole", *RECIPE) == 0
    as_killed_at(tmp_path / "whole", 3, tmp_path / "killed")
    assert not state_of(str(tmp_path / "killed" / "model.ckpt-3")).finished
    capsys.readouterr()
    assert train(dataset, tmp_path / "killed", *RECIPE) == 0
    captured = capsys.readouterr()
    assert "3 steps of its run are done, and 3 batches of epoch 1" in captured.err  # 6 batches of 2, 2, 1 images
    assert captured.out.startswith("step: 6\n")
    whole, killed = (variables(str(tmp_path / name / "model.ckpt-6")) for name in ("whole", "killed"))
    assert whole.keys() == killed.keys() and len(whole) == 185
    for name, value in whole.items():
        np.testing.assert_array_equal(killed[name], value, err_msg=name)


VALIDATED = ["--attn-num-hidden", "8", "--batch-size", "2", "--deterministic", "--log-path", "", "--max-steps", "4",
             "--steps-per-checkpoint", "2", "--validation"]


@pytest.fixture(scope="module")
def left_alone(dataset, tmp_path_factory):
    """Returns a model directory after a run with two validations; read-only."""
    model_dir = tmp_path_factory.mktemp("validated") / "model"
    assert train(dataset, model_dir, *VALIDATED, dataset) == 0
    return model_dir


@pytest.mark.parametrize("during, cut", [("step", 2), ("validation", 1)])  # at the end of the run, and within it
def test_a_validation_that_a_signal_cut_short_is_made_up(dataset, left_alone, tmp_path, monkeypatch, during, cut):
    monkeypatch.setattr(run, "HURRIED_IMAGES", 1)  # so that statistics of fewer images would show
    place, name, number = (Validator, "validate", cut) if during == "validation" else (Reports, "step", 2 * cut)
    calls, before = itertools.count(1), getattr(place, name)

    def interrupted(*arguments):
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return before(*arguments)

    monkeypatch.setattr(place, name, interrupted)
    assert train(dataset, tmp_path, *VALIDATED, dataset) == 143
    assert state_of(str(tmp_path / f"model.ckpt-{2 * cut}")).validation_due
    assert Validations.read(str(tmp_path / "validations.json")).at(2 * cut) is None
    assert train(dataset, tmp_path, *VALIDATED, dataset) == 0
    both = left_alone, tmp_path
    whole, ended = ([json.loads(line) for line in (model_dir / "history.jsonl").read_text().splitlines()]
                    for model_dir in both)
    assert [line for line in ended if line["kind"] == "validation"] == [
        line for line in whole if line["kind"] == "validation"]
    whole, ended = (state_of(str(model_dir / "model.ckpt-4")) for model_dir in both)
    assert ended == whole and ended.finished
    whole, ended = (Validations.read(str(model_dir / "validations.json")).entries for model_dir in both)
    assert ended == whole and [entry["step"] for entry in whole] == [2, 4]
    whole, ended = (variables(str(model_dir / "model.ckpt-4")) for model_dir in both)
    assert all(np.array_equal(ended[name], value) for name, value in whole.items())
    for below in ("", "best"):
        whole, ended = (checkpoint.known_checkpoints(str(model_dir / below)) for model_dir in both)
        assert list(map(os.path.basename, ended)) == list(map(os.path.basename, whole))


def test_a_signal_in_the_last_step_changes_nothing(dataset, tmp_path, monkeypatch):
    def interrupted(*arguments, step=Reports.step):
        os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    monkeypatch.setattr(Reports, "step", interrupted)
    flags = ["--attn-num-hidden", "8", "--batch-size", "5", "--log-path", "", "--max-steps", "1"]
    assert train(dataset, tmp_path, *flags) == 0
    assert state_of(str(tmp_path / "model.ckpt-1")).finished
    info = json.loads((tmp_path / "run.json").read_text())
    assert (info["finished"], info["signal"], info["error"], info["replicas"]) == (True, signal.SIGTERM, None, 1)


def test_a_run_that_cannot_save_is_not_told_as_finished(dataset, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Keeper, "_write", full)
    assert train(dataset, tmp_path, "--attn-num-hidden", "8", "--log-path", "", "--max-steps", "1") == 1
    info = json.loads((tmp_path / "run.json").read_text())
    assert info["finished"] is False and "No space left on device" in info["error"]
    assert f"aocr: error: {info['error']}\n" in capsys.readouterr().err


def test_a_new_run_follows_a_finished_one_where_the_data_are(dataset, tmp_path, capsys):
    flags = ["--attn-num-hidden", "8", "--batch-size", "2", "--log-path", "", "--max-steps", "4"]
    assert train(dataset, tmp_path, *flags) == 0
    first = state_of(str(tmp_path / "model.ckpt-4"))
    assert (first.finished, first.first_step, first.epoch, first.batch) == (True, 0, 1, 1)
    assert train(dataset, tmp_path, *flags) == 0
    second = state_of(str(tmp_path / "model.ckpt-8"))
    assert (second.finished, second.first_step, second.epoch, second.batch) == (True, 4, 2, 2)
    capsys.readouterr()
    assert train(dataset, tmp_path, *flags, "--batch-size", "3") == 0  # the position is invalid at another batch size
    third = state_of(str(tmp_path / "model.ckpt-12"))
    assert (third.epoch, third.batch) == (4, 2)


def test_another_optimizer_starts_afresh_and_says_so(dataset, tmp_path, capsys):
    flags = ["--attn-num-hidden", "8", "--batch-size", "5", "--log-path", "", "--max-steps", "1"]
    assert train(dataset, tmp_path, *flags, "--optimizer", "adam", "--ema", "0") == 0
    before = variables(str(tmp_path / "model.ckpt-1"))
    capsys.readouterr()
    assert train(dataset, tmp_path, *flags, "--optimizer", "adadelta", "--ema", "0.999", "--initial-learning-rate",
                 "0") == 0
    assert "was trained with other options" in capsys.readouterr().err
    after = variables(str(tmp_path / "model.ckpt-2"))
    name = "cnn/conv1/kernel"
    np.testing.assert_array_equal(after[name], before[name])
    # new averages start from the weights, not from the graph's initial values
    np.testing.assert_allclose(after[f"training/{name}/ExponentialMovingAverage"], before[name], rtol=1e-6)


def test_a_spoilt_run_goes_back_three_times_then_stops(dataset, tmp_path, capsys):
    flags = ["--attn-num-hidden", "8", "--batch-size", "5", "--log-path", "", "--log-step", "1"]
    assert train(dataset, tmp_path, *flags, "--max-steps", "2") == 0
    capsys.readouterr()
    assert train(dataset, tmp_path, *flags, "--initial-learning-rate", "1e30", "--no-gradient-clipping", "--optimizer",
                 "adadelta", "--on-nan", "rollback") == 1
    lines = capsys.readouterr().err.splitlines()
    back = [line for line in lines if "rollback" in line and "warning" in line]
    assert [f"rollback {k} of 3" in line for k, line in enumerate(back, 1)] == [True] * 3
    assert "learning rate 1e+30; records " in back[0] and "model.ckpt-2 with half the learning rate" in back[0]
    assert "learning rate 5e+29" in back[1] and "learning rate 2.5e+29" in back[2]
    assert "error" in lines[-1] and "3 rollbacks did not help" in lines[-1] and "1.25e+29" in lines[-1]
    assert tf.train.latest_checkpoint(str(tmp_path)).endswith("model.ckpt-2")


def test_a_file_that_breaks_after_it_was_looked_through_is_one_clear_error(tmp_path, capsys):
    """Its sidecar matches, so training does not read it beforehand."""
    path, noise = str(tmp_path / "data.tfrecords"), np.random.default_rng(1)
    found = scanning.DatasetStatistics(path, [path], [0])
    with tf.io.TFRecordWriter(path) as writer:
        for _ in range(40):
            file = io.BytesIO()
            Image.fromarray(noise.integers(0, 256, (32, 40), dtype=np.uint8)).save(file, "PNG")
            writer.write(to_example(file.getvalue(), "A1").SerializeToString())
            found.count("A1", 40, 32)
    content = bytearray((tmp_path / "data.tfrecords").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "data.tfrecords").write_bytes(content)
    scanning.write_sidecar(found, path)
    assert train(path, tmp_path / "model", "--attn-num-hidden", "8", "--batch-size", "5", "--log-path", "") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"aocr: error: {path}: damaged after it was scanned") and "corrupted record" in error


@pytest.mark.parametrize("flags, message", [
    (["--patience", "2"], "--patience needs validation"),
    (["--schedule", "plateau"], "--schedule plateau needs validation"),
    (["--validation", "a", "--validation-split", "0.1"], "use one of them"),
    (["--freeze", "cnn,head"], "--freeze is cnn,head; use one or two of cnn, encoder, decoder"),
    (["--freeze", "cnn,encoder,decoder"], "use one or two of"),
])
def test_options_that_contradict_each_other(flags, message, capsys):
    assert train("data", "model", "--log-path", "", *flags) == 2
    assert message in capsys.readouterr().err


def test_states_are_read_or_refused():
    state = RunState(first_step=3, epoch=7, batch=2, order="x", validation_due=True)
    assert RunState.from_json(state.to_json(), "c") == state
    assert RunState.from_json("", "c").finished
    values = json.loads(state.to_json())
    earlier = {name: value for name, value in values.items() if name != "validation_due"}  # as 0.10.0 wrote it
    earlier |= dict(first_epoch=5, without_gain=2, owes_validation=True, decoding=["ctc", 0.3], best_of="5 records",
                    best=dict(exact=0.5, cer=0.25, loss=1.5, wer=0.75, decoding="ctc", ctc_share=0.3, step=2))
    found = RunState.from_json(json.dumps(earlier), "c")
    assert found.earlier_best == dict(
        step=2, data="5 records", exact_match=0.5, accuracy=0.0, cer=0.25, wer=0.75, mean_probability=0.0, loss=1.5,
        decoding="ctc", ctc_share=0.3, best=True, halved=False)
    assert dataclasses.replace(found, earlier_best=None) == state
    changes = (dict(version=99), dict(more=1), dict(epoch="1"), dict(batch=-1), dict(finished=1),
               dict(minutes=float("nan")), dict(order=None))
    for broken in ("{", "[]", "3", *(json.dumps(values | change) for change in changes)):
        with pytest.raises(UserError, match="^c: the state of its run cannot be read"):
            RunState.from_json(broken, "c")


def test_another_order_of_the_batches_begins_a_pass_of_its_own():
    state = RunState(finished=True)
    assert not state.begin(0, 11, "x")
    assert (state.epoch, state.batch) == (11, 0)
    state.epoch, state.batch = 13, 4
    assert state.begin(50, 11, "x")
    assert (state.epoch, state.batch) == (13, 4)
    assert state.begin(50, 11, "y")
    assert (state.epoch, state.batch) == (14, 0)
