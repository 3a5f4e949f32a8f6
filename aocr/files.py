"""File access by path: local files by Python, `scheme://` ones by tf.io.gfile, imported only when needed."""

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow.compat.v1 as tf

# TensorFlow's gs:// messages: HTTP error, no response, path.
HTTP_ERROR = re.compile(r"HTTP response code (\d+)(?: with body '(.*)')?", re.DOTALL)
NO_ANSWER = re.compile(r"libcurl code \d+ meaning '([^']*)'")
REMOTE_PATH = re.compile(r"gs://\S+")
INSIDE = re.compile(r"^\{\{.*?\}\} | \[Op:.*")  # node and op names in a message
NOT_FOUND = 5  # code of tf.errors.NotFoundError


class StorageError(OSError):
    """Error of remote storage. `strerror` is one line with the remedy, `filename` the path."""


class Unreachable(StorageError):
    """Remote storage does not respond, after retries; other files would fail too."""


def is_remote(path: str) -> bool:
    """Returns whether tf.io.gfile must handle a path."""
    return "://" in path


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[str]:
    """Yields a temporary path, renamed to `path` when the block succeeds and removed otherwise."""
    import tensorflow.compat.v1 as tf

    part = path + ".part"
    try:
        if is_remote(path):
            # Uploads happen on close: check write access now, before the work.
            with tf.io.gfile.GFile(part, "wb") as file:
                file.write(b"")
        yield part
        tf.io.gfile.rename(part, path, overwrite=True)
    except BaseException:
        with contextlib.suppress(tf.errors.OpError):  # the original error is already being reported
            if tf.io.gfile.exists(part):
                tf.io.gfile.remove(part)
        raise


@contextlib.contextmanager
def new_text_file(path: str) -> Iterator[Any]:
    """Yields a UTF-8 text file to write to; it appears complete when the block succeeds. Raises: see `os_errors`."""
    import tensorflow.compat.v1 as tf

    with whole_file(path) as part, tf.io.gfile.GFile(part, "w") as file:
        file.write("")  # opens it
        yield file


@contextlib.contextmanager
def os_errors(path: str) -> Iterator[None]:
    """Raises OSError for a tf.errors.OpError of the block, which is about files at or below a path."""
    import tensorflow.compat.v1 as tf

    try:
        yield
    except tf.errors.OpError as error:
        raise os_error(error, path) from None


def write_text(path: str, content: str) -> None:
    """Writes a UTF-8 text file atomically."""
    import tensorflow.compat.v1 as tf

    with whole_file(path) as part, tf.io.gfile.GFile(part, "w") as file:
        file.write(content)


def append_text(path: str, content: str) -> None:
    """Appends to a UTF-8 text file, creating it if missing."""
    import tensorflow.compat.v1 as tf

    with tf.io.gfile.GFile(path, "a") as file:
        file.write(content)


def write_bytes(path: str, content: bytes) -> None:
    """Writes a file atomically. Raises OSError."""
    import tensorflow.compat.v1 as tf

    with os_errors(path), whole_file(path) as part, tf.io.gfile.GFile(part, "wb") as file:
        file.write(content)


def read_bytes(path: str) -> bytes:
    """Returns a file's content. Raises OSError, including FileNotFoundError and StorageError."""
    if not is_remote(path):
        with open(path, "rb") as file:
            return file.read()
    import tensorflow.compat.v1 as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.OpError as error:
        raise os_error(error, path) from None
    except TypeError:  # a lone surrogate, for example
        raise OSError(errno.EINVAL, "path is not valid text", path) from None


def make_directory(path: str) -> None:
    """Creates a directory unless it exists. Raises OSError."""
    if not is_remote(path):
        os.makedirs(path, exist_ok=True)
        return
    import tensorflow.compat.v1 as tf

    try:
        # Not makedirs, which loops forever on a missing bucket.
        tf.io.gfile.mkdir(path)
    except tf.errors.AlreadyExistsError:
        pass
    except tf.errors.OpError as error:
        raise os_error(error, path) from None


def load_json(content: str | bytes) -> Any:
    """Parses JSON. Raises ValueError if it is invalid or nested too deeply for the parser."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def is_pattern(path: str) -> bool:
    """Returns whether a path is a glob pattern: it contains `*`, `?` or `[`, and no file has that literal name."""
    return any(character in path for character in "*?[") and not exists(path)


def exists(path: str) -> bool:
    """Returns whether a file or directory exists. Raises OSError if remote storage cannot be queried."""
    if not is_remote(path):
        return os.path.exists(path)
    import tensorflow.compat.v1 as tf

    try:
        return tf.io.gfile.exists(path)
    except tf.errors.OpError as error:
        raise os_error(error, path) from None
    except TypeError:
        raise OSError(errno.EINVAL, "path is not valid text", path) from None


def os_error(error: "tf.errors.OpError", path: str | None) -> OSError:
    """Converts an error on a remote path to FileNotFoundError, StorageError or another OSError."""
    message = error.message.strip()
    if answer := HTTP_ERROR.search(message):
        status, detail = int(answer.group(1)), f"HTTP {answer.group(1)}{_detail(answer.group(2))}"
        if status in (401, 403):
            return StorageError(errno.EACCES, f"access denied ({detail}); name an authorized key file in "
                                "GOOGLE_APPLICATION_CREDENTIALS or run `gcloud auth application-default login`", path)
        if status == 404:
            return FileNotFoundError(errno.ENOENT, f"no such bucket or object ({detail})", path)
        if status != 429 and status < 500:
            return StorageError(errno.EIO, detail, path)
    elif answer := NO_ANSWER.search(message):
        detail = answer.group(1)
    else:
        missing = error.error_code == NOT_FOUND
        return OSError(errno.ENOENT if missing else errno.EIO, _what_was_wrong(message), path)
    return Unreachable(errno.EHOSTUNREACH, f"the storage does not respond ({detail}); check the network and try again",
                       path)


def _what_was_wrong(message):
    """Returns the line of TensorFlow's message that states the problem, without node and op names; graph errors have
    it after a trace."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    nodes = [k for k, line in enumerate(lines[:-1]) if line.startswith("Node: ")]
    line = lines[nodes[0] + 1] if nodes else lines[0] if lines else "unknown error"
    return INSIDE.sub("", line)


def _detail(body):
    """Returns the message in a response body as ": TEXT" in one line; empty without one."""
    try:
        text = json.loads(body)["error"]["message"]
    except (TypeError, ValueError, KeyError):
        return ""
    return f": {' '.join(text.split())}"


def cause(error: Exception) -> str:
    """Returns the problem in one line: of an OSError, a tf.errors.OpError or another exception."""
    if hasattr(error, "message"):  # a tf.errors.OpError
        error = os_error(error, None)
    return getattr(error, "strerror", None) or str(error)


def storage_problem(error: Exception) -> str | None:
    """Returns one line on an exception caused by remote storage, wherever it was raised; None for others."""
    message = getattr(error, "message", None)  # of a tf.errors.OpError
    if isinstance(message, str) and (HTTP_ERROR.search(message) or NO_ANSWER.search(message)):
        path = REMOTE_PATH.search(message)
        error = os_error(error, path.group(0) if path else "gs://")
    elif not isinstance(error, StorageError):
        return None
    return f"{error.filename}: {error.strerror}"
