"""Files on any path: local ones by Python itself, `scheme://` ones by tf.io.gfile, imported only when needed."""

import contextlib
import json
import os


def is_remote(path):
    """Whether a path is one for tf.io.gfile."""
    return "://" in path


@contextlib.contextmanager
def whole_file(path):
    """Gives a path beside `path` to write to; it becomes `path` when the block ends well, and is removed otherwise."""
    import tensorflow.compat.v1 as tf

    part = path + ".part"
    try:
        yield part
        tf.io.gfile.rename(part, path, overwrite=True)
    except BaseException:
        if tf.io.gfile.exists(part):
            tf.io.gfile.remove(part)
        raise


def write_text(path, content):
    """Writes a text file in UTF-8, complete at once."""
    import tensorflow.compat.v1 as tf

    with whole_file(path) as part, tf.io.gfile.GFile(part, "w") as file:
        file.write(content)


def append_text(path, content):
    """Appends to a text file in UTF-8, made if missing."""
    import tensorflow.compat.v1 as tf

    with tf.io.gfile.GFile(path, "a") as file:
        file.write(content)


def write_bytes(path, content):
    """Writes a file, complete at once. Raises OSError."""
    import tensorflow.compat.v1 as tf

    try:
        with whole_file(path) as part, tf.io.gfile.GFile(part, "wb") as file:
            file.write(content)
    except tf.errors.OpError as error:
        raise OSError(error.message) from None


def read_bytes(path):
    """A file's content. Raises OSError, FileNotFoundError among it."""
    if not is_remote(path):
        with open(path, "rb") as file:
            return file.read()
    import tensorflow.compat.v1 as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.NotFoundError as error:
        raise FileNotFoundError(error.message) from None
    except tf.errors.OpError as error:
        raise OSError(error.message) from None


def load_json(content):
    """The value in JSON, str or bytes. ValueError if it is none, or nested too deeply for the reader."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def is_pattern(path):
    """Whether a path stands for all that match it: it holds `*`, `?` or `[`, and nothing has that very name."""
    return any(character in path for character in "*?[") and not exists(path)


def exists(path):
    """Whether there is such a file or directory. Raises OSError for a remote path of which that cannot be told."""
    if not is_remote(path):
        return os.path.exists(path)
    import tensorflow.compat.v1 as tf

    try:
        return tf.io.gfile.exists(path)
    except tf.errors.OpError as error:
        raise OSError(error.message) from None
