"""Files that are either whole or not there, on any path that tf.io.gfile knows."""

import contextlib

import tensorflow.compat.v1 as tf


@contextlib.contextmanager
def whole_file(path):
    """Gives a path beside `path` to write to; it becomes `path` when the block ends well, and is removed otherwise."""
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
    with whole_file(path) as part, tf.io.gfile.GFile(part, "w") as file:
        file.write(content)


def read_bytes(path):
    """A file's content. Raises tf.errors.OpError."""
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()
