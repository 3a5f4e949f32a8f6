"""Validation: held-out data, the best checkpoint, plateaus and patience."""

import json
import math
import os
import shutil

import pytest
import tensorflow.compat.v1 as tf
from helpers import printed, train

from aocr.checkpoint import find_model, keep_checkpoints, latest_checkpoint, read_description
from aocr.cli import main
from aocr.config import Decoding
from aocr.data.scanning import DatasetStatistics, scan
from aocr.errors import UserError
from aocr.evaluation.validations import Validation, Validations
from aocr.metrics import METRICS
from aocr.training.state import RunState
from aocr.training.validation import Validator


def history(model_dir, kind):
    """Returns the lines of one kind in the history."""
    with open(os.path.join(model_dir, "history.jsonl"), encoding="utf-8") as file:
        return [line for line in map(json.loads, file) if line["kind"] == kind]


@pytest.fixture(scope="module")
def validated(dataset, tmp_path_factory):
    """Returns a model directory after six steps with three validations, at a rate that worsens the model."""
    model_dir = str(tmp_path_factory.mktemp("validated") / "model")
    assert train(dataset, model_dir, "--validation", dataset, "--max-steps", "6", "--steps-per-checkpoint", "2",
                 "--keep", "2", "--monitor", "loss", "--optimizer", "adam", "--initial-learning-rate", "0.03",
                 "--log-step", "1", "--schedule", "constant") == 0
    return model_dir


def test_what_validation_says_is_what_test_says(validated, dataset, capsys):
    metrics = {line["step"]: line for line in history(validated, "validation")}
    assert list(metrics) == [2, 4, 6]
    best = min(metrics.values(), key=lambda line: line["loss"])
    for which, line in (("best", best), ("last", metrics[6])):
        assert main(["test", dataset, "--model-dir", validated, "--log-path", "", "--checkpoint", which]) == 0
        printed_values = printed(capsys.readouterr().out)
        assert float(printed_values["exact_match"]) == pytest.approx(line["exact_match"], abs=1e-6)
        assert float(printed_values["cer"]) == pytest.approx(line["cer"], abs=1e-6)
    assert latest_checkpoint(os.path.join(validated, "best")).endswith(f"model.ckpt-{best['step']}")


def test_the_last_checkpoints_are_kept_apart_from_the_best(validated):
    state = tf.train.get_checkpoint_state(validated)
    assert [path.rpartition("-")[2] for path in state.all_model_checkpoint_paths] == ["4", "6"]
    assert len([name for name in os.listdir(os.path.join(validated, "best")) if name.endswith(".index")]) == 1


def test_the_best_checkpoint_is_taken_unless_another_is_named(validated):
    best = latest_checkpoint(os.path.join(validated, "best"))
    last = latest_checkpoint(validated)
    fourth = os.path.join(validated, "model.ckpt-4")
    for which, path in ((None, best), ("best", best), ("last", last), (fourth, fourth)):
        assert find_model(validated, {}, which=which).checkpoint == path
    with pytest.raises(UserError, match="--checkpoint model.ckpt-3: no such checkpoint; give last, best or a path"):
        find_model(validated, {}, which="model.ckpt-3")


def test_without_validation_there_is_no_best(dataset, tmp_path, words, capsys):
    assert train(dataset, tmp_path, "--max-steps", "1") == 0
    assert main(["predict", "--model-dir", str(tmp_path), "--log-path", "", "--checkpoint", "best",
                 words.images[0]]) == 1
    assert "no best checkpoint there; train with --validation" in capsys.readouterr().err


def test_a_run_that_no_longer_validates_says_what_is_read(validated, dataset, tmp_path, capsys):
    shutil.copytree(validated, tmp_path / "model")
    assert train(dataset, tmp_path / "model", "--max-steps", "1") == 0
    assert "without validation the best checkpoint remains that of step " in capsys.readouterr().err


def test_what_a_run_was_stands_beside_its_model(validated, dataset):
    with open(os.path.join(validated, "run.json"), encoding="utf-8") as file:
        info = json.load(file)
    assert (info["finished"], info["step"], info["seed"], info["first_step"]) == (True, 6, 0, 0)
    assert info["data"]["path"] == dataset and info["data"]["used"] == 5 and info["validation"]["used"] == 5
    assert info["error"] is None and info["flags"]["gpus"] == 1
    assert info["flags"]["initial_learning_rate"] == 0.03 and info["versions"]["tensorflow"] == tf.__version__
    assert info["best"]["loss"] == min(line["loss"] for line in history(validated, "validation"))
    assert [line["step"] for line in history(validated, "train")] == [1, 2, 3, 4, 5, 6]
    assert {line["learning_rate"] for line in history(validated, "train")} == {0.03}


def test_tensorboard_shows_figures_and_samples(validated):
    tags, pictures = set(), []
    for name in os.listdir(validated):
        if name.startswith("events"):
            for event in tf.train.summary_iterator(os.path.join(validated, name)):
                tags |= {value.tag for value in event.summary.value}
                pictures += [value.image for value in event.summary.value if value.HasField("image")]
    assert {"loss", "total_gradient_norm", "learning_rate", "images_per_second", "padding", "validation/cer",
            "validation/exact_match", "validation/loss"} <= tags
    assert pictures and all(picture.encoded_image_string.startswith(b"\x89PNG") for picture in pictures)


def test_a_share_is_held_out_and_said(dataset, tmp_path, capsys):
    assert train(dataset, tmp_path, "--validation-split", "0.4", "--max-steps", "1") == 0
    assert "2 records are held out for validation, 3 are for training" in capsys.readouterr().err


def test_a_share_that_leaves_nothing_is_an_error(dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(DatasetStatistics, "usable", property(lambda scan: 0 if scan.selection else 5))
    assert train(dataset, tmp_path, "--validation-split", "0.4", "--max-steps", "1") == 1
    assert "--validation-split 0.4 leaves 0 records" in capsys.readouterr().err


def test_a_run_without_gain_halves_its_rate_and_ends(dataset, tmp_path, capsys):
    """At a rate of 0 without augmentation nothing changes, so no validation after the first is an improvement."""
    flags = ["--validation", dataset, "--validate-every", "1", "--initial-learning-rate", "0", "--patience", "4",
             "--schedule", "plateau", "--augment", "none"]
    assert train(dataset, tmp_path, *flags) == 0
    captured = capsys.readouterr()
    assert "no improvement in 3 validations: halving the learning rate" in captured.err
    assert "no improvement in 4 validations (--patience): the best was at step 1" in captured.err
    assert printed(captured.out)["step"] == "5" and printed(captured.out)["best_step"] == "1"
    state = RunState.from_json(tf.train.load_variable(str(tmp_path), "training/state").decode(), "")
    assert state.finished
    outcomes = Validations.read(str(tmp_path / "validations.json"))
    assert (outcomes.rate_factor(0), outcomes.without_gain(0)) == (0.5, 4)


def test_a_lowered_rate_is_told_where_a_run_goes_on(dataset, tmp_path, capsys):
    flags = ["--validation", dataset, "--validate-every", "1", "--initial-learning-rate", "0", "--max-steps", "6",
             "--steps-per-checkpoint", "5", "--augment", "none"]
    assert train(dataset, tmp_path, *flags, "--schedule", "plateau") == 0
    keep_checkpoints(str(tmp_path), [str(tmp_path / "model.ckpt-5")])  # as if killed before the end
    capsys.readouterr()
    assert train(dataset, tmp_path, *flags) == 0
    assert "the scheduled learning rate is multiplied by 0.5" in capsys.readouterr().err


def outcome(exact_match, cer, loss):
    """Returns a Validation with these metrics."""
    return Validation({**dict.fromkeys(METRICS, 0.0), "exact_match": exact_match, "cer": cer, "loss": loss},
                      Decoding("joint", 0.25))


@pytest.mark.parametrize("monitor, own, previous, better", [
    ("cer", (0.5, 0.1, 9.0), (0.9, 0.2, 1.0), True),
    ("exact_match", (0.5, 0.1, 9.0), (0.9, 0.2, 1.0), False),
    ("loss", (0.5, 0.1, 9.0), (0.9, 0.2, 1.0), False),
    ("cer", (0.0, 1.0, 2.0), (0.0, 1.0, 3.0), True),  # a tie: the loss decides
    ("cer", (0.0, 1.0, 3.0), (0.0, 1.0, 3.0), False),
    ("loss", (0.0, 1.0, math.nan), (0.0, 1.0, 3.0), False),
])
def test_which_figures_are_better(monitor, own, previous, better):
    assert outcome(*own).better_than(outcome(*previous).metrics, monitor) is better


def test_figures_of_other_data_are_not_compared(caplog):
    outcomes = Validations()
    assert outcomes.add(10, outcome(0.9, 0.1, 0.2), "cer", "a")
    assert not outcomes.add(20, outcome(0.8, 0.2, 0.2), "cer", "a")
    assert (outcomes.without_gain(0), outcomes.best["step"]) == (1, 10)
    assert "other data" not in caplog.text
    assert outcomes.add(30, outcome(0.1, 0.9, 0.2), "cer", "b")
    assert (outcomes.without_gain(0), outcomes.best["step"]) == (0, 30)
    assert "step 10, was validated on other data (a)" in caplog.text


def test_plateaus_are_counted_within_a_run():
    outcomes = Validations()
    outcomes.add(10, outcome(0.9, 0.1, 0.2), "cer", "a", plateau=True)
    for step in range(11, 18):
        outcomes.add(step, outcome(0.9, 0.1, 0.2), "cer", "a", plateau=step < 17)
    assert [entry["step"] for entry in outcomes.entries if entry["halved"]] == [13, 16]
    assert (outcomes.without_gain(0), outcomes.rate_factor(0)) == (7, 0.25)
    assert (outcomes.without_gain(14), outcomes.rate_factor(14)) == (3, 0.5)  # for a run that began at step 14
    outcomes.forget_after(15)
    assert (outcomes.without_gain(0), outcomes.rate_factor(0), outcomes.at(16)) == (5, 0.5, None)


def test_validations_are_read_or_refused(tmp_path):
    path, outcomes = str(tmp_path / "validations.json"), Validations()
    assert Validations.read(path).entries == []
    outcomes.add(10, outcome(0.9, 0.1, math.nan), "cer", "a")
    outcomes.write(path)
    (entry,) = Validations.read(path).entries
    assert math.isnan(entry.pop("loss"))
    assert entry == dict(step=10, data="a", exact_match=0.9, accuracy=0.0, cer=0.1, wer=0.0, mean_probability=0.0,
                         decoding="joint", ctc_share=0.25, best=True, halved=False)
    whole = json.dumps(dict(entry, loss=1.0))
    for broken in ("", "[]", "3", '{"validations": 3}', '{"validations": [3]}', '{"validations": [{"step": 1}]}',
                   f'{{"validations": [{whole}]}}'.replace("10", '"10"'), f'{{"validations": [{whole}'):
        (tmp_path / "validations.json").write_text(broken)
        with pytest.raises(UserError, match="validations.json: cannot be read"):
            Validations.read(path)


def test_data_are_known_again_wherever_they_lie(validated, dataset, tmp_path):
    def data_of(found):
        return Validator(found, read_description(validated), "float32", None).data

    near, far = scan(dataset), scan(shutil.copy(dataset, str(tmp_path / "copy")))
    assert data_of(near) == data_of(far)
    assert len({data_of(part) for part in (near, *near.split(0.5))}) == 3
    records = list(tf.io.tf_record_iterator(dataset))
    with tf.io.TFRecordWriter(str(tmp_path / "turned")) as writer:
        for record in records[::-1]:
            writer.write(record)
    assert data_of(near) != data_of(scan(str(tmp_path / "turned")))


def test_another_figure_is_compared_with_the_same_best():
    outcomes = Validations()
    assert outcomes.add(10, outcome(0.9, 0.1, 0.2), "cer", "a")
    assert not outcomes.add(20, outcome(0.95, 0.2, 0.3), "loss", "a")
    assert outcomes.add(20, outcome(0.95, 0.2, 0.3), "exact_match", "a")


def test_characters_that_cannot_be_read_are_told_of(dataset, tmp_path, capsys):
    records = [tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(dataset)]
    records[0].features.feature["label"].bytes_list.value[0] = "Ж".encode()
    with tf.io.TFRecordWriter(str(tmp_path / "data")) as writer:
        for record in records:
            writer.write(record.SerializeToString())
    assert train(dataset, tmp_path / "model", "--validation", str(tmp_path / "data"), "--max-steps", "1") == 0
    assert "labels contain characters that the charset lacks and the model can never read: Ж" in capsys.readouterr().err


def test_each_validated_checkpoint_keeps_its_decoding(validated, tmp_path):
    model_dir = str(shutil.copytree(validated, tmp_path / "model"))
    path = os.path.join(model_dir, "validations.json")
    outcomes = Validations.read(path)
    for entry in outcomes.entries:
        entry.update(decoding="ctc" if entry["step"] == 4 else "joint", ctc_share=entry["step"] / 10)
    outcomes.write(path)
    for directory in (model_dir, model_dir + "/"):
        fourth = find_model(directory, {}, which=os.path.join(model_dir, "model.ckpt-4"))
        assert fourth.decoding == Decoding("ctc", 0.4)
        assert find_model(directory, {}, which="last").decoding == Decoding("joint", 0.6)
        assert find_model(directory, {}, which="last", decoding="attention").decoding.method == "attention"
    os.remove(path)
    assert find_model(model_dir, {}, which="last").decoding == read_description(model_dir).decoding
