"""The history has each line once, whenever a run was killed."""

import json

import pytest
from helpers import train

from aocr.evaluation.validations import Validations
from aocr.training.history import History
from aocr.training.keeping import Keeper
from aocr.training.reports import Reports

LEAN = ["--ctc-weight", "0", "--guided-attention", "0", "--augment", "none", "--attn-num-layers", "1", "--log-step",
        "1", "--deterministic", "--ema", "0"]


class Killed(BaseException):
    """Ends a process at once, as far as a test can tell."""


def lines(path):
    return [(line["kind"], line["step"]) for line in map(json.loads, path.read_text().splitlines())]


def killed_after(function):
    """Returns a function that ends the process after it has done its work."""
    def work(*arguments, **named):
        function(*arguments, **named)
        raise Killed

    return work


def test_a_run_killed_beside_a_checkpoint_has_each_line_once(dataset, tmp_path, monkeypatch):
    """First after the checkpoint, then between the validation's line and validations.json."""
    flags = [*LEAN, "--max-steps", "3", "--steps-per-checkpoint", "2", "--validation", dataset]
    for place, name, work in ((Keeper, "save", Keeper.save), (Validations, "write", lambda *_: None)):
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(Reports, "__exit__", lambda *_: None)  # which a kill leaves out
            patched.setattr(place, name, killed_after(work))
            train(dataset, tmp_path, *flags)
        assert lines(tmp_path / "history.jsonl")[:2] == [("train", 1), ("train", 2)]
    assert train(dataset, tmp_path, *flags) == 0
    assert lines(tmp_path / "history.jsonl") == [
        ("train", 1), ("train", 2), ("validation", 2), ("train", 3), ("validation", 3)]
    assert [entry["step"] for entry in Validations.read(str(tmp_path / "validations.json")).entries] == [2, 3]


def test_lines_that_a_run_repeats_are_removed(tmp_path):
    path = tmp_path / "history.jsonl"
    history = History(str(path))
    for step in (1, 2, 3):
        history.add("train", step, dict(loss=step / 2))
        history.add("validation", step, dict(cer=0.5))
    history.write()
    with open(path, "a", encoding="utf-8") as file:
        file.write('mine\n{"kind": "tra')
    history.add("train", 4, {})
    history.go_back(2)
    history.write()
    assert path.read_text() == ('{"kind": "train", "step": 1, "loss": 0.5}\n'
                                '{"kind": "validation", "step": 1, "cer": 0.5}\n'
                                '{"kind": "train", "step": 2, "loss": 1.0}\n'
                                '{"kind": "validation", "step": 2, "cer": 0.5}\nmine\n')
    history.go_back(2, validated=False)
    assert '"validation", "step": 2' not in path.read_text() and '"train", "step": 2' in path.read_text()


def test_the_history_of_a_model_that_was_not_replaced_stays(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text("{}\n")
    history = History(str(path))
    history.add("train", 1, {})
    history.close()
    assert path.read_text() == "{}\n"
    path.unlink()
    history.close()
    assert path.read_text() == '{"kind": "train", "step": 1}\n'


def test_a_history_that_cannot_be_read_ends_no_run(tmp_path, caplog):
    (tmp_path / "history.jsonl").mkdir()
    History(str(tmp_path / "history.jsonl")).go_back(1)
    assert "history.jsonl: cannot be read or written, lines may be repeated in it: Is a directory" in caplog.text
