"""The model directory: validation of its description, and which checkpoints count."""

import json
import os

import pytest
import tensorflow.compat.v1 as tf

from aocr.charset import Charset
from aocr.checkpoint import (
    Description,
    copy_checkpoint,
    keep_checkpoints,
    known_checkpoints,
    latest_checkpoint,
    read_description,
    step_of,
)
from aocr.config import ModelConfig
from aocr.errors import UserError
from aocr.evaluation.validations import Validations
from aocr.training.cluster.evaluator import existing_checkpoints

VALUES = json.loads(Description(ModelConfig(), Charset("AB")).to_json())


def read(**change):
    """Parses VALUES as a Description after changing some, at the top level or in `model`."""
    values = json.loads(json.dumps(VALUES))
    for key, value in change.items():
        (values["model"] if key in values["model"] else values)[key] = value
    return Description.from_json(json.dumps(values), "here/model.json")


def test_a_description_is_read_as_it_was_written():
    assert read() == Description(ModelConfig(), Charset("AB"))
    assert read(color=True, max_width=7).config == ModelConfig(color=True, max_width=7)
    calibrated = Description(ModelConfig(), Charset("AB"), temperature=1.75)
    assert Description.from_json(calibrated.to_json(), "model.json") == calibrated
    older = {name: value for name, value in VALUES.items() if name != "temperature"}
    assert Description.from_json(json.dumps(older), "model.json").temperature == 1.0


@pytest.mark.parametrize("change, message", [
    (dict(max_width=1.5), "max_width is 1.5, not int"),
    (dict(max_width=True), "max_width is True, not int"),
    (dict(max_height=None), "max_height is None, not int"),
    (dict(color="yes"), "color is 'yes', not bool"),
    (dict(max_width=0), "the minimum is 1"),
    (dict(model=[]), "AttributeError"),
    (dict(temperature=0.001), "temperature is 0.001"),
    (dict(temperature=True), "temperature is True"),
    (dict(charset="AB"), "charset is not a list"),
    (dict(charset={"A": 1}), "charset is not a list"),
    (dict(charset=["\ud800"]), "surrogates not allowed"),
    (dict(charset=[1]), "expected str"),
    (dict(charset=[]), "at least one character"),
    (dict(format_version=9, aocr_version="9\n.0"), "Use aocr 9 .0"),
])
def test_values_of_another_kind_are_one_clear_error(change, message):
    with pytest.raises(UserError) as caught:
        read(**change)
    assert str(caught.value).startswith("here/model.json: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_description_that_is_nested_too_deeply():
    with pytest.raises(UserError, match="nested too deeply"):
        Description.from_json("[" * 100_000, "model.json")


@pytest.fixture
def steps(tmp_path):
    """A directory with checkpoints of steps 3, 5 and 8, as a function: step -> its path without suffix."""
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.get_variable("global_step", [], tf.int64, tf.zeros_initializer())
        given = tf.placeholder(tf.int64, [])
        assign, saver = step.assign(given), tf.train.Saver(save_relative_paths=True)
        for value in (3, 5, 8):
            session.run(assign, {given: value})
            saver.save(session, str(tmp_path / "model.ckpt"), global_step=value)
    return lambda value: str(tmp_path / f"model.ckpt-{value}")


def remove(path):
    for file in tf.io.gfile.glob(f"{path}.*"):
        tf.io.gfile.remove(file)


def test_checkpoints_whose_files_are_gone_leave_the_older_ones(steps, tmp_path, caplog):
    assert latest_checkpoint(str(tmp_path)) == steps(8) and step_of(steps(8)) == 8
    assert not caplog.text
    remove(steps(8))
    assert latest_checkpoint(str(tmp_path)) == steps(5)
    assert known_checkpoints(str(tmp_path)) == [steps(3), steps(5)]
    assert "model.ckpt-8, whose files are missing; " in caplog.text
    remove(steps(5))
    remove(steps(3))
    with pytest.raises(UserError, match="names .*model.ckpt-8, but neither its files nor older ones exist"):
        latest_checkpoint(str(tmp_path))


def test_checkpoints_that_are_given_up_are_known_no_more(steps, tmp_path):
    """As after a roll-back: if the run is killed then, it resumes from the rolled-back state."""
    keep_checkpoints(str(tmp_path), [steps(3), steps(5)])
    assert latest_checkpoint(str(tmp_path)) == steps(5)
    assert known_checkpoints(str(tmp_path)) == [steps(3), steps(5)]
    assert "/" not in (tmp_path / "checkpoint").read_text()  # so that the directory can be moved


def test_a_broken_list_of_checkpoints_is_one_clear_error(steps, tmp_path):
    for content in ("", "model_checkpoint_path: \"a"):
        (tmp_path / "checkpoint").write_text(content)
        with pytest.raises(UserError, match="checkpoint: broken list of checkpoints"):
            latest_checkpoint(str(tmp_path))


def test_a_copy_of_what_is_gone_leaves_the_one_before(steps, tmp_path):
    best = str(tmp_path / "best")
    copy_checkpoint(steps(3), best)
    remove(steps(5))
    with pytest.raises(tf.errors.NotFoundError):
        copy_checkpoint(steps(5), best)
    assert tf.train.load_variable(latest_checkpoint(best), "global_step") == 3
    copy_checkpoint(steps(8), best)
    assert [step_of(path) for path in known_checkpoints(best)] == [8]


def test_a_checkpoint_that_is_written_again_is_another_one(steps, tmp_path):
    before = existing_checkpoints(str(tmp_path))
    assert [path for path, _ in before] == [steps(3), steps(5), steps(8)]
    os.utime(tmp_path / "model.ckpt-5.index", (7, 7))
    after = existing_checkpoints(str(tmp_path))
    assert [new == old for new, old in zip(after, before)] == [True, False, True]


def test_a_description_from_before_the_networks_had_names_is_of_the_original_s():
    values = json.loads(json.dumps(VALUES))
    for name in ("cnn", "attention_units", "ctc", "right_to_left"):
        del values["model"][name]
    del values["network"], values["decoding"]
    values["model"]["attn_num_layers"] = 2
    description = Description.from_json(json.dumps(values), "here/model.json")
    assert description.config == ModelConfig(cnn="original", attn_num_layers=2, attention_units=0, ctc=False)
    assert description.decoding.method == "attention"


def test_a_description_tells_the_network_s_numbers_and_how_to_decode():
    assert VALUES["network"]["stride"] == 4 and VALUES["network"]["layers"][0]["kernel"] == [5, 5]
    assert VALUES["decoding"] == dict(method="joint", ctc_share=0.5)
    assert read(decoding=dict(method="ctc", ctc_share=0.5)).decoding == ("ctc", 0.5)


@pytest.mark.parametrize("change, message", [
    (dict(network=dict(VALUES["network"], stride=8)), "the network compact of aocr"),
    (dict(cnn="vast"), "--cnn is 'vast'"),
    (dict(decoding=dict(method="guess", ctc_share=0.5)), "guess"),
    (dict(decoding=dict(method="joint", ctc_share=1.5)), "1.5"),
    (dict(decoding=dict(method="joint", ctc_share=None)), "broken description"),
    (dict(decoding=[]), "broken description"),
    (dict(ctc=False), "joint without a CTC branch"),
])
def test_networks_and_decodings_that_there_are_not(change, message):
    with pytest.raises(UserError) as caught:
        read(**change)
    assert str(caught.value).startswith("here/model.json: ") and message in str(caught.value)


@pytest.mark.parametrize("content, told", [
    (None, "cannot be read: Is a directory; make it readable"), (b"\xff\xfe{}", "broken description"),
    (b"", "broken description"), (b"[1]", "broken description"), (b"7", "broken description"),
    (b'{"format_version": 1e999}', "broken description"), (b"\0" * 9, "broken description"),
])
def test_a_description_that_is_damaged_or_no_file(tmp_path, content, told):
    path = tmp_path / "model.json"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_description(str(tmp_path))
    assert str(caught.value).startswith(f"{path}: {told}")


def test_a_list_of_checkpoints_that_is_no_file_or_no_text(steps, tmp_path):
    (tmp_path / "checkpoint").write_bytes(b"\xff\xfe\0\xd8")
    with pytest.raises(UserError, match="checkpoint: broken list of checkpoints; restore it"):
        latest_checkpoint(str(tmp_path))
    (tmp_path / "checkpoint").unlink()
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(UserError, match="checkpoint: cannot be read: Is a directory"):
        latest_checkpoint(str(tmp_path))


ENTRY = dict(step=1, data="d", exact_match=0, accuracy=0, cer=1, wer=1, mean_probability=0, loss=2, decoding="ctc",
             ctc_share=0.5, best=True, halved=False)


def test_validations_that_are_damaged_or_no_file(tmp_path):
    path = tmp_path / "validations.json"
    path.write_text(json.dumps({"validations": [ENTRY]}))
    assert Validations.read(str(path)).best == ENTRY
    for content in (b"\xff", b"", b"[]", b"{}", b'{"validations": 5}', b'{"validations": ["x"]}', *(
            json.dumps({"validations": [dict(ENTRY, **change)]}).encode()
            for change in (dict(step="1"), dict(cer=None), dict(best="no"), dict(decoding=[]), dict(ctc_share=10**400),
                           dict(ctc_share="x"), dict(data=3)))):
        path.write_bytes(content)
        with pytest.raises(UserError, match="validations.json: cannot be read .*; restore it from a copy, or remove"):
            Validations.read(str(path))
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="validations.json: cannot be read"):
        Validations.read(str(path))
