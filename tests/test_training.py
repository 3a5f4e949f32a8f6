"""Training runs: they resume, end and save when they should, and stop on errors."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from helpers import SMALL, relabel, train

from aocr.cli import main
from aocr.commands import runtime
from aocr.config import ModelConfig, TrainConfig
from aocr.data.scanning import DatasetStatistics
from aocr.training.graph import TrainStep
from aocr.training.prepare import prepared_bytes
from aocr.training.reports import Reports
from aocr.training.run import CHOICE_MINUTES
from aocr.training.schedule import Clock, crossed, scheduled_rate
from aocr.training.state import RunState


def start(dataset, model_dir, *flags, **settings):
    """Starts `aocr train` in a separate process."""
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "aocr", "train", dataset, "--model-dir", str(model_dir), *SMALL, *flags],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, **settings)


def wait_for(process, word):
    """Reads the process's log up to a line that contains `word`."""
    for line in process.stderr:
        if word in line:
            return
    raise AssertionError(f"{word!r} did not come")


@pytest.fixture(scope="module")
def two_steps(dataset, tmp_path_factory):
    """Returns a model directory after two steps; read-only."""
    model_dir = tmp_path_factory.mktemp("two") / "model"
    assert train(dataset, model_dir, "--max-steps", "2") == 0
    return model_dir


@pytest.fixture
def copied(two_steps, tmp_path):
    """Returns a copy of that directory."""
    for name in os.listdir(two_steps):
        (tmp_path / name).write_bytes((two_steps / name).read_bytes())
    return tmp_path


def logged(model_dir):
    """Returns {tag: [(step, value)]} of the TensorBoard events."""
    values = {}
    for name in sorted(os.listdir(model_dir)):
        if name.startswith("events"):
            for event in tf.train.summary_iterator(os.path.join(model_dir, name)):
                for value in event.summary.value:
                    values.setdefault(value.tag, []).append((event.step, value.simple_value))
    return values


def test_training_goes_on_where_it_ended(copied, dataset, capsys):
    assert train(dataset, copied, "--max-steps", "3", "--log-step", "1") == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("step: 5\n")
    assert "continuing from" in captured.err and "step 3: loss" in captured.err
    assert tf.train.latest_checkpoint(str(copied)).endswith("model.ckpt-5")
    steps = {tag: [step for step, _ in points] for tag, points in logged(copied).items()}
    assert steps == dict.fromkeys(
        ["loss", "attention_loss", "ctc_loss", "total_gradient_norm", "learning_rate", "images_per_second", "padding"],
        [3, 4, 5])


@pytest.mark.parametrize("done, rate", [(0, 0.2), (2, 0.6), (3, 0.8), (30, 0.8), (60, 0.4), (90, 0.0)])
def test_the_rate_rises_holds_for_a_third_then_falls(done, rate):
    config = TrainConfig(initial_learning_rate=0.8, warm_up=3, schedule="cosine")
    assert scheduled_rate(config, done, 90) == pytest.approx(rate)
    assert scheduled_rate(TrainConfig(initial_learning_rate=0.8, warm_up=0), done, 90) == 0.8


def test_beyond_its_run_the_rate_is_that_of_the_nearest_step():
    """As for a worker of a cluster, or after a rollback to a checkpoint of an earlier run."""
    config = TrainConfig(initial_learning_rate=0.8, warm_up=3, schedule="cosine")
    assert scheduled_rate(config, -100, 90) == pytest.approx(0.2)
    assert scheduled_rate(config, 120, 90) == pytest.approx(0.0, abs=1e-9)


def test_what_is_told_is_the_mean_of_the_last_steps(tmp_path, caplog):
    caplog.set_level("INFO")
    with Reports(str(tmp_path), str(tmp_path), tf.Graph(), first_step=20, steps=7, done=0, log_step=3) as reports:
        for step, (loss, norm) in enumerate([(9.0, 1.0), (1.0, 2.0), (4.0, 6.0), (2.0, 0.5), (8.0, 2.5)], 21):
            reports.step(TrainStep(loss, loss, 0.0, 0, norm, 0.5, step, 0, step, np.arange(4), 0.25), step - 1)
        assert reports.loss == pytest.approx(14 / 3)  # of steps 23 to 25
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"], line["gradient_norm"]) for line in lines] == [
        (21, 9.0, 1.0), (24, pytest.approx(7 / 3), pytest.approx(8.5 / 3))]
    assert "step 24: loss 2.3333, perplexity 10.312, gradient norm 2.83" in caplog.text
    assert [value for _, value in logged(tmp_path)["loss"]] == pytest.approx([9.0, 7 / 3])


@pytest.mark.parametrize("before, after, due", [
    (0, 1, False), (6, 7, True), (7, 8, False), (7, 13, False), (5, 9, True), (13, 29, True), (0, 7, True)])
def test_what_comes_every_seven_steps_comes_also_where_steps_are_passed_over(before, after, due):
    assert crossed(7, before, after) is due


def test_a_run_follows_its_schedule(copied, dataset):
    assert train(dataset, copied, "--schedule", "cosine", "--max-steps", "3", "--log-step", "1", "--warm-up", "0",
                 "--initial-learning-rate", "1") == 0
    assert logged(copied)["learning_rate"] == [(3, 1.0), (4, 1.0), (5, pytest.approx(0.5))]


def test_no_resume_starts_afresh(copied, dataset, capsys):
    assert train(dataset, copied, "--no-resume", "--max-steps", "1", "--max-prediction", "6") == 0
    assert capsys.readouterr().out.startswith("step: 1\n")
    assert tf.train.latest_checkpoint(str(copied)).endswith("model.ckpt-1")
    assert '"max_prediction": 6' in (copied / "model.json").read_text()


def test_an_epoch_uses_the_last_partial_batch(dataset, tmp_path, capsys):
    assert train(dataset, tmp_path, "--batch-size", "2", "--num-epoch", "2") == 0
    assert capsys.readouterr().out.startswith("step: 6\n")  # 2 + 2 + 1 images, twice


def test_checkpoints_come_as_often_as_asked(dataset, tmp_path):
    assert train(dataset, tmp_path, "--steps-per-checkpoint", "2", "--max-steps", "5") == 0
    state = tf.train.get_checkpoint_state(str(tmp_path))
    assert [path.rpartition("-")[2] for path in state.all_model_checkpoint_paths] == ["2", "4", "5"]


def test_a_moved_model_directory_still_works(two_steps, tmp_path, words, capsys):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in os.listdir(two_steps):
        (moved / name).write_bytes((two_steps / name).read_bytes())
    assert main(["predict", "--model-dir", str(moved), "--log-path", "", words.images[0]]) == 0


def test_a_loss_that_is_no_number_stops_with_the_step(dataset, tmp_path, capsys):
    assert train(dataset, tmp_path, "--initial-learning-rate", "1e30", "--no-gradient-clipping") == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1
    assert "nan" in errors[0] and " at step " in errors[0] and "learning rate 1e+30" in errors[0]
    assert "records " in errors[0]
    info = json.loads((tmp_path / "run.json").read_text())
    assert info["error"] in errors[0] and (info["finished"], info["step"]) == (False, 1)
    assert tf.train.latest_checkpoint(str(tmp_path)) is None


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_ends(dataset, tmp_path, number, code):
    with start(dataset, tmp_path, "--log-step", "1") as process:
        wait_for(process, "step 2:")
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == code
    assert f"{number.name}: saving" in rest and "Traceback" not in rest
    step = int(tf.train.latest_checkpoint(str(tmp_path)).rpartition("-")[2])
    assert step >= 2
    assert (tmp_path / "model.json").exists()


def test_kill_9_leaves_the_last_checkpoint_usable(dataset, tmp_path, words):
    with start(dataset, tmp_path, "--steps-per-checkpoint", "1", "--log-step", "1") as process:
        wait_for(process, "checkpoint")
        wait_for(process, "step 2:")
        process.kill()
    assert main(["predict", "--model-dir", str(tmp_path), "--log-path", "", words.images[0]]) == 0
    assert train(dataset, tmp_path, "--max-steps", "1") == 0


def test_a_full_disk_keeps_the_checkpoint_before(copied, dataset, words):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    process = start(dataset, copied, "--max-steps", "1", preexec_fn=small_files)
    _, error = process.communicate()
    assert process.returncode == 1
    assert "the checkpoint of step 3 cannot be written" in error and "Traceback" not in error
    assert tf.train.latest_checkpoint(str(copied)).endswith("model.ckpt-2")
    assert main(["predict", "--model-dir", str(copied), "--log-path", "", words.images[0]]) == 0


def test_a_damaged_checkpoint_is_one_clear_error(copied, words, capsys):
    data = copied / "model.ckpt-2.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1000])
    assert main(["predict", "--model-dir", str(copied), "--log-path", "", words.images[0]]) == 1
    error = capsys.readouterr().err
    assert "model.ckpt-2: cannot be restored" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("content, message", [("{", "broken description"), ('{"format_version": 99}', "broken"), (
    '{"format_version": 99, "aocr_version": "9.9", "preprocessing": {"version": 1}}', "Use aocr 9.9")])
def test_a_damaged_description_is_one_clear_error(copied, words, capsys, content, message):
    (copied / "model.json").write_text(content)
    assert main(["predict", "--model-dir", str(copied), "--log-path", "", words.images[0]]) == 1
    error = capsys.readouterr().err
    assert "model.json" in error and message in error and len(error.splitlines()) == 1


def test_a_checkpoint_without_its_description_is_an_error(copied, words, capsys):
    (copied / "model.json").unlink()
    assert main(["predict", "--model-dir", str(copied), "--log-path", "", words.images[0]]) == 1
    assert "no model.json beside the checkpoint" in capsys.readouterr().err


def test_labels_that_break_given_limits_are_listed(dataset, tmp_path, capsys):
    data = relabel(dataset, tmp_path / "data", ["A", "É", "TOO LONG", "B", "ÉÉ"])
    assert train(data, tmp_path / "model", "--full-ascii", "--max-prediction", "3") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "'É' (U+00C9)" in error and "2 labels, the first is 'É' (record 1)" in error
    assert "8 characters exceed --max-prediction 3" in error and "'TOO LONG' (record 2)" in error
    assert "leave out --full-ascii" in error
    assert not (tmp_path / "model").exists()


def test_a_model_is_not_trained_on_characters_it_lacks(copied, dataset, tmp_path, capsys):
    data = relabel(dataset, tmp_path / "data", ["A", "Ж"])
    assert train(data, copied, "--max-steps", "1") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "'Ж'" in error and "another --model-dir" in error


def test_a_record_that_cannot_be_decoded_is_left_out_and_named(dataset, tmp_path, capsys):
    records = [tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(dataset)]
    records[1].features.feature["image"].bytes_list.value[0] = b"broken"
    with tf.io.TFRecordWriter(str(tmp_path / "data")) as writer:
        for record in records:
            writer.write(record.SerializeToString())
    assert train(str(tmp_path / "data"), tmp_path / "model", "--num-epoch", "1", "--max-bad-records", "0.2") == 0
    error = capsys.readouterr().err
    assert "record 1 is skipped: the image cannot be decoded" in error
    assert "5 records, 4 used, 1 skipped" in error
    assert train(str(tmp_path / "data"), tmp_path / "other", "--num-epoch", "1") == 1
    error = capsys.readouterr().err
    assert "1 of 5 records cannot be read (20.00%)" in error and "--max-bad-records 0.01" in error
    assert not (tmp_path / "other").exists()


def test_the_canvas_squeezes_and_counts_when_a_limit_is_given(dataset, tmp_path, capsys):
    assert train(dataset, tmp_path, "--max-steps", "1", "--max-width", "45", "--max-height", "32") == 0
    assert "canvas 45 x 32: 3 images are squeezed to it" in capsys.readouterr().err


def test_defaults_are_the_original_s():
    assert (ModelConfig.max_width, ModelConfig.max_height, ModelConfig.max_prediction) == (160, 60, 8)
    assert (TrainConfig.num_epoch, TrainConfig.steps_per_checkpoint) == (1000, 100)


def test_a_run_in_bfloat16_with_its_images_in_memory(dataset, tmp_path, capsys):
    """Both belong to the run, not to the model: training resumes without them, testing works in either data type."""
    flags = ["--cache", "--precision", "bfloat16", "--max-steps", "3"]
    assert train(dataset, tmp_path, *flags) == 0
    assert "caching the prepared images in memory: " in capsys.readouterr().err
    assert train(dataset, tmp_path, "--max-steps", "1") == 0
    losses, _ = [], capsys.readouterr()
    for precision in ("float32", "bfloat16"):
        assert main(["test", dataset, "--model-dir", str(tmp_path), "--log-path", "", "--precision", precision]) == 0
        losses += re.findall(r"loss ([0-9.]+)", capsys.readouterr().err)
    half = len(losses) // 2
    assert losses[:half] != losses[half:]
    assert [float(loss) for loss in losses[:half]] == pytest.approx([float(loss) for loss in losses[half:]], rel=0.05)


def test_the_memory_that_a_cache_takes():
    scan = DatasetStatistics("data", ["data"], widths={10: 3, 40: 2, 400: 1})
    config = ModelConfig(max_width=100, max_height=32, color=True)
    assert prepared_bytes(scan, config) == (10 * 3 + 40 * 2 + 100) * 32 * 3 * 4


@pytest.mark.parametrize("features, warned", [("fpu avx2 avx512f", True), ("fpu avx512f avx512_bf16", False),
                                              ("amx_bf16", False), (None, False)])
def test_a_processor_without_bfloat16_is_told_of(features, warned, tmp_path, monkeypatch, caplog):
    if features:
        (tmp_path / "cpuinfo").write_text(f"flags : {features}\n")
    monkeypatch.setattr(runtime, "PROCESSOR", str(tmp_path / "cpuinfo"))
    runtime.warn_of_slow_precision("float32", -1)
    assert not caplog.records
    runtime.warn_of_slow_precision("bfloat16", -1)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned


def test_an_alphabet_of_choice(dataset, tmp_path, capsys):
    """Given as a string or a file, it is stored with the model; labels with other characters are an error."""
    (tmp_path / "letters.txt").write_text("ZYXWVUTSRQPONMLKJIHGFEDCBA\n9876543210\n", encoding="utf-8-sig")
    assert train(dataset, tmp_path / "model", "--max-steps", "1", "--charset", str(tmp_path / "letters.txt")) == 0
    assert json.loads((tmp_path / "model" / "model.json").read_text())["charset"][:2] in ("ZY", ["Z", "Y"])
    assert train(dataset, tmp_path / "model", "--max-steps", "1", "--charset", "ABC") == 2
    assert "--charset asks for 3 characters: ABC; but the model in" in capsys.readouterr().err
    assert train(dataset, tmp_path / "other", "--max-steps", "1", "--charset", "ABC") == 1
    assert "is not in the charset of 3" in capsys.readouterr().err


@pytest.mark.parametrize("done, by_clock, rate", [
    (0, 0.0, 0.8), (0, 0.5, 0.6828), (60, 0.5, 0.4), (30, 1.0, 0.0), (9, 2.0, 0.0)])
def test_the_rate_falls_by_the_clock_or_by_the_steps(done, by_clock, rate):
    """Whichever ends first. After half of the time, a quarter of the cosine is over: 0.4 (1 + cos(pi / 4))."""
    config = TrainConfig(initial_learning_rate=0.8, max_minutes=1.0)
    assert scheduled_rate(config, done, 90, by_clock) == pytest.approx(rate, abs=1e-4)


def test_the_rate_stays_unless_an_end_is_known():
    assert scheduled_rate(TrainConfig(), 89, 90) == TrainConfig().initial_learning_rate
    assert scheduled_rate(TrainConfig(max_steps=90), 90, 90) == 0.0
    assert scheduled_rate(TrainConfig(max_steps=90, optimizer="adadelta"), 90, 90) == 1.0
    assert scheduled_rate(TrainConfig(max_steps=90, schedule="constant"), 90, 90) == TrainConfig().initial_learning_rate


def test_a_run_ends_by_the_clock(dataset, tmp_path, capsys):
    """And is reported as finished: the next start would resume a run with time left, but begin a new one after this."""
    started = time.monotonic()
    assert train(dataset, tmp_path, "--max-minutes", "0.2") == 0
    assert time.monotonic() - started < 60
    info = json.loads((tmp_path / "run.json").read_text())
    assert info["finished"] and info["images"] >= info["step"] > 0
    state = RunState.from_json(tf.train.load_variable(str(tmp_path), "training/state").decode(), "")
    assert info["minutes"] >= state.minutes >= 0.2 - CHOICE_MINUTES


def test_minutes_of_a_run_that_was_cut_short_count(dataset, tmp_path):
    assert train(dataset, tmp_path, "--max-steps", "2", "--steps-per-checkpoint", "1") == 0
    state = json.loads(tf.train.load_variable(str(tmp_path), "training/state").decode())
    assert 0.0 < state["minutes"] < 5.0 and state["images"] == 10
    clock = Clock()
    clock.before = 3.0
    assert 3.0 <= clock.minutes < 3.1
