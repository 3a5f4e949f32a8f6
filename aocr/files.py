"""Files on any path: local ones by Python itself, `scheme://` ones by tf.io.gfile, imported only when needed."""

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow.compat.v1 as tf

# What TensorFlow's gs:// says of an answer that is an error, of no answer, and of the path.
HTTP_ERROR = re.compile(r"HTTP response code (\d+)(?: with body '(.*)')?", re.DOTALL)
NO_ANSWER = re.compile(r"libcurl code \d+ meaning '([^']*)'")
REMOTE_PATH = re.compile(r"gs://\S+")
INSIDE = re.compile(r"^\{\{.*?\}\} | \[Op:.*")  # names of nodes and operations in a message
NOT_FOUND = 5  # the code of a tf.errors.NotFoundError


class StorageError(OSError):
    """Remote storage refuses something. `strerror` is one line with the remedy, `filename` the path."""


class Unreachable(StorageError):
    """It does not answer, however often it is asked; so it is no use to go on with other files."""


def is_remote(path: str) -> bool:
    """Whether a path is one for tf.io.gfile."""
    return "://" in path


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[str]:
    """Gives a path beside `path` to write to; it becomes `path` when the block ends well, and is removed otherwise."""
    import tensorflow.compat.v1 as tf

    part = path + ".part"
    try:
        if is_remote(path):
            # What is written is sent when it is complete; whether that is allowed is to be known before the work.
            with tf.io.gfile.GFile(part, "wb") as file:
                file.write(b"")
        yield part
        tf.io.gfile.rename(part, path, overwrite=True)
    except BaseException:
        with contextlib.suppress(tf.errors.OpError):  # what it fails of, in a storage that fails, was told already
            if tf.io.gfile.exists(part):
                tf.io.gfile.remove(part)
        raise


def write_text(path: str, content: str) -> None:
    """Writes a text file in UTF-8, complete at once."""
    import tensorflow.compat.v1 as tf

    with whole_file(path) as part, tf.io.gfile.GFile(part, "w") as file:
        file.write(content)


def append_text(path: str, content: str) -> None:
    """Appends to a text file in UTF-8, made if missing."""
    import tensorflow.compat.v1 as tf

    with tf.io.gfile.GFile(path, "a") as file:
        file.write(content)


def write_bytes(path: str, content: bytes) -> None:
    """Writes a file, complete at once. Raises OSError."""
    import tensorflow.compat.v1 as tf

    try:
        with whole_file(path) as part, tf.io.gfile.GFile(part, "wb") as file:
            file.write(content)
    except tf.errors.OpError as error:
        raise os_error(error, path) from None


def read_bytes(path: str) -> bytes:
    """A file's content. Raises OSError, FileNotFoundError and StorageError among it."""
    if not is_remote(path):
        with open(path, "rb") as file:
            return file.read()
    import tensorflow.compat.v1 as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.OpError as error:
        raise os_error(error, path) from None
    except TypeError:  # half of a surrogate pair, say
        raise OSError(errno.EINVAL, "a path that is no text", path) from None


def make_directory(path: str) -> None:
    """Makes a directory unless it is there. Raises OSError."""
    if not is_remote(path):
        os.makedirs(path, exist_ok=True)
        return
    import tensorflow.compat.v1 as tf

    try:
        # Not makedirs: where there is no such bucket, it asks for it without end.
        tf.io.gfile.mkdir(path)
    except tf.errors.AlreadyExistsError:
        pass
    except tf.errors.OpError as error:
        raise os_error(error, path) from None


def load_json(content: str | bytes) -> Any:
    """The value in JSON. ValueError if it is none, or nested too deeply for the reader."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def is_pattern(path: str) -> bool:
    """Whether a path stands for all that match it: it holds `*`, `?` or `[`, and nothing has that very name."""
    return any(character in path for character in "*?[") and not exists(path)


def exists(path: str) -> bool:
    """Whether there is such a file or directory. Raises OSError if remote storage does not tell."""
    if not is_remote(path):
        return os.path.exists(path)
    import tensorflow.compat.v1 as tf

    try:
        return tf.io.gfile.exists(path)
    except tf.errors.OpError as error:
        raise os_error(error, path) from None
    except TypeError:
        raise OSError(errno.EINVAL, "a path that is no text", path) from None


def os_error(error: "tf.errors.OpError", path: str | None) -> OSError:
    """The OSError for an error on a remote path: a FileNotFoundError, a StorageError or another."""
    message = error.message.strip()
    if answer := HTTP_ERROR.search(message):
        status, detail = int(answer.group(1)), f"HTTP {answer.group(1)}{_detail(answer.group(2))}"
        if status in (401, 403):
            return StorageError(errno.EACCES, f"access denied ({detail}); name a key file that may in "
                                "GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`", path)
        if status == 404:
            return FileNotFoundError(errno.ENOENT, f"no such bucket or object ({detail})", path)
        if status != 429 and status < 500:
            return StorageError(errno.EIO, detail, path)
    elif answer := NO_ANSWER.search(message):
        detail = answer.group(1)
    else:
        missing = error.error_code == NOT_FOUND
        return OSError(errno.ENOENT if missing else errno.EIO, _what_was_wrong(message), path)
    return Unreachable(errno.EHOSTUNREACH, f"the storage does not answer ({detail}); look at the network and try again",
                       path)


def _what_was_wrong(message):
    """The line of TensorFlow's message that says so, without what tells of TensorFlow's own parts; where it is about a
    graph, it stands behind a trace."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    nodes = [k for k, line in enumerate(lines[:-1]) if line.startswith("Node: ")]
    line = lines[nodes[0] + 1] if nodes else lines[0] if lines else "no reason is told"
    return INSIDE.sub("", line)


def _detail(body):
    """What the body of an answer says of its reason: ": TEXT" in one line, or nothing."""
    try:
        text = json.loads(body)["error"]["message"]
    except (TypeError, ValueError, KeyError):
        return ""
    return f": {' '.join(text.split())}"


def cause(error: Exception) -> str:
    """One line on what went wrong: `error` is an OSError, a tf.errors.OpError or another exception."""
    if hasattr(error, "message"):  # a tf.errors.OpError
        error = os_error(error, None)
    return getattr(error, "strerror", None) or str(error)


def storage_problem(error: Exception) -> str | None:
    """One line on an exception that remote storage caused, wherever it came up; None for any other."""
    message = getattr(error, "message", None)  # of a tf.errors.OpError
    if isinstance(message, str) and (HTTP_ERROR.search(message) or NO_ANSWER.search(message)):
        path = REMOTE_PATH.search(message)
        error = os_error(error, path.group(0) if path else "gs://")
    elif not isinstance(error, StorageError):
        return None
    return f"{error.filename}: {error.strerror}"
