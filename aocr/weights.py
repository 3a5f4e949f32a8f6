"""The files of a checkpoint and the weights in them, read at once, so that a run may delete them afterwards."""

import contextlib
import os
import posixpath
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.config import WEIGHT_SCOPES
from aocr.errors import UserError
from aocr.files import StorageError, is_remote, names_in
from aocr.graph.optimizer import WeightAverage

DATA = re.compile(r"\.data-\d{5}-of-\d{5}")
LISTED = 3  # maximum number of variables in a message
REMEDY = "use an earlier checkpoint (--checkpoint PATH); to train further from one, remove the files of this one"


def averaged_name(name: str) -> str:
    """Returns the checkpoint name of the average of the weight of this name."""
    return f"training/{name}/{WeightAverage.SUFFIX}"


def files_of(checkpoint: str) -> list[str]:
    """Returns the existing files of a checkpoint (path without suffix). Its path may hold glob characters."""
    directory, name = posixpath.split(checkpoint)
    try:
        names = names_in(directory)
    except StorageError:
        raise
    except OSError:  # no directory, or a file
        return []
    return [posixpath.join(directory, found) for found in names if found.startswith(f"{name}.")]


def is_there(checkpoint: str) -> bool:
    """Returns whether the files of a checkpoint (path without suffix) exist."""
    ends = [file[len(checkpoint):] for file in files_of(checkpoint)]
    return ".index" in ends and any(map(DATA.fullmatch, ends))


@contextlib.contextmanager
def reader_of(checkpoint: str) -> Iterator[Any]:
    """Yields TensorFlow's reader of a checkpoint (path without suffix).

    Raises: tf.errors.OpError or ValueError if it cannot be read, tf.errors.NotFoundError if its files are gone.
    """
    try:
        with _without_glob(checkpoint) as path:
            yield tf.train.load_checkpoint(path)
    except (tf.errors.OpError, LookupError, RuntimeError) as error:  # built-in ones for files that were cut
        if not is_there(checkpoint):
            raise tf.errors.NotFoundError(None, None, f"{checkpoint} no longer exists") from None
        if isinstance(error, tf.errors.OpError):
            raise
        raise tf.errors.DataLossError(None, None, str(error)) from None


@contextlib.contextmanager
def _without_glob(checkpoint):
    """Yields a path of a checkpoint that the reader, which takes it for a glob pattern, understands: through a link."""
    if is_remote(checkpoint) or not any(character in checkpoint for character in "*?[\\"):
        yield checkpoint
        return
    directory, name = os.path.split(os.path.abspath(checkpoint))
    with tempfile.TemporaryDirectory() as place:
        os.symlink(directory, os.path.join(place, "model"))
        yield os.path.join(place, "model", name)


def shapes_in(checkpoint: str) -> dict[str, list[int]]:
    """Returns the shapes of a checkpoint's variables by name. Raises: as `reader_of`."""
    with reader_of(checkpoint) as reader:
        return reader.get_variable_to_shape_map()


def read_weights(checkpoint: str) -> dict[str, np.ndarray]:
    """Returns the weights in a checkpoint (path without suffix) by name, their averages where it has them.

    Of a checkpoint in another layout, the original's, all variables but the optimizer's. Raises: as `reader_of`;
      UserError if a weight is NaN or infinite.
    """
    with reader_of(checkpoint) as reader:
        stored = reader.get_variable_to_shape_map()
        names = [name for name in stored if name.split("/")[0] in WEIGHT_SCOPES]
        names = names or [name for name in stored if name.rpartition("/")[0] not in stored]
        averages = {name: averaged_name(name) for name in names if averaged_name(name) in stored}
        weights = {name: np.asarray(reader.get_tensor(averages.get(name, name))) for name in names}
    check_finite(weights, checkpoint)
    return weights


def check_finite(values: Mapping[str, np.ndarray], checkpoint: str) -> None:
    """Raises UserError, naming variables and checkpoint, if a value is NaN or infinite."""
    spoilt = [name for name, value in values.items() if value.dtype.kind == "f" and not np.all(np.isfinite(value))]
    if spoilt:
        raise UserError(f"{checkpoint}: holds NaN or infinite values in {listed(spoilt)}; {REMEDY}")


def check_fit(shapes: Mapping[str, Any], variables: Mapping[str, tf.Variable], checkpoint: str) -> None:
    """Raises UserError if a checkpoint lacks variables of a model, or has them in other shapes.

    Args: shapes: of what the checkpoint holds, by name. variables: the model's, by name.
    """
    if missing := [name for name in variables if name not in shapes]:
        raise UserError(f"{checkpoint}: does not fit the model's description (model.json): it lacks {listed(missing)}; "
                        "restore the description that belongs to it from a copy")
    for name, variable in variables.items():
        found, expected = list(shapes[name]), variable.shape.as_list()
        if found != expected:
            raise UserError(f"{checkpoint}: does not fit the model's description (model.json): {name} has the shape "
                            f"{found}, the described model {expected}; restore the description that belongs to it "
                            "from a copy")


def listed(names: Iterable[str]) -> str:
    """Returns names for a message, the first LISTED of them in order."""
    names = sorted(names)
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
