"""What a run writes to its model directory, checked before it starts: other programs' files are never replaced."""

import posixpath
from collections.abc import Iterable

from aocr import checkpoint
from aocr.evaluation import validations
from aocr.files import is_remote, load_json
from aocr.outputs import Kind, Output, check_outputs, json_with, start_of
from aocr.training import history
from aocr.training.reports import CURVES_NAME, SUMMARY_NAME


def check_model_dir(model_dir: str, data: Iterable[str]) -> None:
    """Raises UserError if a file of another kind, or of the data, has the name of one that a run writes.

    `data`: the files that the run reads. Remote directories are not checked.
    """
    if not is_remote(model_dir):
        check_outputs([Output(posixpath.join(model_dir, name), kind, "--model-dir:") for name, kind in KINDS.items()],
                      data)


def _is_history(path):
    return any(_is_point(line) for line in start_of(path).splitlines())


def _is_point(line):
    try:
        values = load_json(line)
    except ValueError:
        return False
    return isinstance(values, dict) and values.keys() >= {"kind", "step"}


_STATE = Kind("a list of checkpoints", lambda path: b"model_checkpoint_path" in start_of(path))
KINDS = {
    checkpoint.DESCRIPTION_NAME: Kind("the description of a model", json_with("format_version", "charset")),
    checkpoint.STATE_NAME: _STATE,
    posixpath.join(checkpoint.BEST_NAME, checkpoint.STATE_NAME): _STATE,
    validations.NAME: Kind("a record of validations", json_with("validations")),
    history.NAME: Kind("the history of a run", _is_history),
    SUMMARY_NAME: Kind("the summary of a run", json_with("flags", "versions")),
    CURVES_NAME: Kind("a drawing of curves", lambda path: b"Matplotlib" in start_of(path)),
}
