"""Weights that are spoilt, do not fit or vanish, and model directories with any name."""

import json
import os
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from helpers import train

from aocr import checkpoint
from aocr.cli import main
from aocr.errors import UserError
from aocr.weights import files_of, is_there, read_weights

AVERAGE = "training/cnn/conv1/kernel/ExponentialMovingAverage"


@pytest.fixture(scope="module")
def model_dir(dataset, tmp_path_factory):
    """A model directory with the checkpoint of step 1; read-only."""
    directory = tmp_path_factory.mktemp("weights") / "model"
    assert train(dataset, directory, "--max-steps", "1") == 0
    return directory


@pytest.fixture
def changed(model_dir, tmp_path):
    """Makes a copy of the model with other values: `changed({name: function of the value, or None to drop it})`."""
    def make(changes):
        path = shutil.copytree(model_dir, tmp_path / "model")
        reader = tf.train.load_checkpoint(str(path / "model.ckpt-1"))
        values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
        values = {name: changes[name](value) if changes.get(name) else value for name, value in values.items()
                  if changes.get(name, True)}
        with tf.Graph().as_default(), tf.Session() as session:
            variables = {name: tf.Variable(value, name=f"v{k}") for k, (name, value) in enumerate(values.items())}
            session.run(tf.global_variables_initializer())
            tf.train.Saver(variables).save(session, str(path / "model.ckpt-1"), write_state=False)
        return path

    return make


def errors_of(commands, model_dir, capsys):
    """Runs each command, which must end with exit code 1 and one line. Returns the lines."""
    lines = []
    for command in commands:
        capsys.readouterr()
        assert main([*command, "--model-dir", str(model_dir), "--log-path", ""]) == 1
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err and not captured.out
        lines.append(captured.err.splitlines()[-1])
    return lines


@pytest.fixture
def commands(dataset, words, tmp_path):
    """The commands that open a model."""
    return [["predict", words.images[0]], ["test", dataset], ["export", str(tmp_path / "exported")],
            ["train", dataset, "--max-steps", "1"]]


def test_weights_that_are_not_finite_are_not_saved(dataset, model_dir, tmp_path, capsys):
    directory = shutil.copytree(model_dir, tmp_path / "m")
    before = read_weights(str(directory / "model.ckpt-1"))
    assert train(dataset, directory, "--max-steps", "1", "--initial-learning-rate", "1e30", "--on-nan",
                 "rollback") == 1
    captured = capsys.readouterr()
    assert not captured.out and "NaN or infinite values after step 2 in cnn/conv1/" in captured.err
    error = captured.err.splitlines()[-1]
    assert f"; 3 rollbacks did not help; nothing is saved after {directory}/model.ckpt-1; lower --initial" in error
    assert json.loads((directory / "run.json").read_text())["finished"] is False
    assert [os.path.basename(path) for path in checkpoint.known_checkpoints(str(directory))] == ["model.ckpt-1"]
    after = read_weights(str(directory / "model.ckpt-1"))
    assert all(np.array_equal(after[name], value) for name, value in before.items())


def test_weights_that_are_not_finite_never_answer(changed, commands, capsys):
    def spoil(value):
        return np.where(np.arange(value.size).reshape(value.shape) == 3, np.float32("nan"), value)

    directory = changed({AVERAGE: spoil})
    for line in errors_of(commands[:3], directory, capsys):
        assert line.startswith(f"aocr: error: {directory}/model.ckpt-1: holds NaN or infinite values in ")
        assert "cnn/conv1/kernel" in line and "; use an earlier checkpoint (--checkpoint PATH); to train" in line


def test_weights_of_other_shapes_are_one_error_in_every_command(changed, commands, capsys):
    name = "decoder/output/bias"
    directory = changed({one: lambda value: value[1:] for one in (name, f"training/{name}/ExponentialMovingAverage")})
    for line in errors_of(commands, directory, capsys):
        assert line == (f"aocr: error: {directory}/model.ckpt-1: does not fit the model's description (model.json): "
                        f"{name} has the shape [38], the described model [39]; restore the description that belongs "
                        "to it from a copy")
    assert not os.path.exists(commands[2][1])


def test_missing_weights(changed, commands, capsys):
    line, = errors_of(commands[:1], changed({"cnn/conv1/kernel": None}), capsys)
    assert "model.ckpt-1: does not fit the model's description (model.json): it lacks cnn/conv1/kernel; " in line


def test_a_description_of_another_charset_does_not_fit(model_dir, tmp_path, commands, capsys):
    directory = shutil.copytree(model_dir, tmp_path / "model")
    values = json.loads((directory / "model.json").read_text())
    values["charset"].pop()
    (directory / "model.json").write_text(json.dumps(values))
    line, = errors_of(commands[:1], directory, capsys)
    assert "decoder/embedding has the shape [39, 10], the described model [38, 10]" in line


def test_a_checkpoint_that_a_training_deletes_is_chosen_again(model_dir, tmp_path, monkeypatch):
    directory = shutil.copytree(model_dir, tmp_path / "model")

    def next_one(path, read=checkpoint.read_weights):
        if path.endswith("-1"):
            for file in files_of(path):
                os.rename(file, file.replace("ckpt-1", "ckpt-2"))
            checkpoint.keep_checkpoints(str(directory), [str(directory / "model.ckpt-2")])
        return read(path)

    monkeypatch.setattr(checkpoint, "read_weights", next_one)
    assert checkpoint.find_model(str(directory), {}).checkpoint == f"{directory}/model.ckpt-2"
    with pytest.raises(UserError, match="--checkpoint .*model.ckpt-1: no such checkpoint"):
        checkpoint.find_model(str(directory), {}, which=f"{directory}/model.ckpt-1")


def test_a_list_of_checkpoints_that_a_training_replaces_is_read_again(model_dir, tmp_path, monkeypatch):
    directory = shutil.copytree(model_dir, tmp_path / "model")
    (directory / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-0"\n')

    def replaced(path, found=checkpoint.is_there):
        checkpoint.keep_checkpoints(str(directory), [str(directory / "model.ckpt-1")])
        return found(path)

    monkeypatch.setattr(checkpoint, "is_there", replaced)
    assert checkpoint.latest_checkpoint(str(directory)) == f"{directory}/model.ckpt-1"


def test_a_model_directory_may_have_any_name(model_dir, dataset, words, tmp_path, capsys):
    directory = shutil.copytree(model_dir, tmp_path / "a[b]*?")
    assert train(dataset, directory, "--keep", "1", "--steps-per-checkpoint", "1", "--validation", dataset,
                 "--max-steps", "1") == 0
    assert {name.partition(".data")[0] for name in os.listdir(directory) if name.startswith("model.ckpt")} == {
        "model.ckpt-2", "model.ckpt-2.index", "model.ckpt-2.meta"}
    place = ["--model-dir", str(directory), "--log-path", ""]
    capsys.readouterr()
    assert main(["predict", *place, "--checkpoint", "best", words.images[0]]) == 0
    assert capsys.readouterr().out.startswith(words.images[0])
    assert main(["export", str(tmp_path / "x[y]"), *place, "--no-verify"]) == 0
    assert os.path.exists(tmp_path / "x[y]" / "saved_model.pb")


def test_temporary_files_are_no_checkpoint(tmp_path):
    for name in ("c.index", "c.data-00000-of-00001.tempstate7"):
        (tmp_path / name).write_text("")
    assert not is_there(str(tmp_path / "c"))
    assert len(files_of(str(tmp_path / "c"))) == 2
    assert files_of(str(tmp_path / "none" / "c")) == []


@pytest.mark.parametrize("suffix, size", [("index", 0), ("index", 100), ("data-00000-of-00001", 0),
                                          ("data-00000-of-00001", 1000)])
def test_a_checkpoint_that_was_cut_is_one_clear_error(model_dir, tmp_path, suffix, size):
    directory = shutil.copytree(model_dir, tmp_path / "model")
    os.truncate(directory / f"model.ckpt-1.{suffix}", size)
    with pytest.raises(UserError, match="model.ckpt-1: cannot be restored: "):
        checkpoint.find_model(str(directory), {})


def test_a_directory_with_names_that_are_not_utf_8(model_dir, tmp_path):
    directory = shutil.copytree(model_dir, tmp_path / "m")
    (directory / os.fsdecode(b"\xff")).touch()
    assert is_there(str(directory / "model.ckpt-1")) and not is_there(str(directory / "other"))
    assert main(["export", str(tmp_path / "exported"), "--model-dir", str(directory), "--log-path", "",
                 "--no-verify", "--no-warm-up"]) == 0
