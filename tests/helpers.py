"""What several test modules do with the command line, with datasets and with servers."""

import http.client
import json
from urllib.parse import urlsplit

import tensorflow.compat.v1 as tf

from aocr.cli import main
from aocr.data.records import to_example

SMALL = ("--attn-num-hidden", "8", "--batch-size", "5", "--log-path", "")  # a model that is built and trained soon


def train(dataset, model_dir, *flags):
    """Runs `aocr train` with SMALL, which later flags override. Returns the exit code."""
    return main(["train", dataset, "--model-dir", str(model_dir), *SMALL, *flags])


def printed(text):
    """Parses the `name: value` lines that a command printed into a dict of str."""
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)


def relabel(dataset, path, labels):
    """Writes a dataset with the images of another and these labels. Returns its path."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record, label in zip(tf.data.TFRecordDataset(dataset), labels):
            image = tf.train.Example.FromString(record.numpy()).features.feature["image"].bytes_list.value[0]
            writer.write(to_example(image, label).SerializeToString())
    return str(path)


def ask(url, method, path, body=None, headers=(), timeout=60):
    """Sends one request; returns its status, its headers, and its body as JSON or, if it is none, as text."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout)
    try:
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        text = response.read().decode()
        try:
            return response.status, response.headers, json.loads(text)
        except ValueError:
            return response.status, response.headers, text
    finally:
        connection.close()
