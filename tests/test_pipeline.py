"""Batches from datasets: every sample once, padded to its own batch, sequences spelled out."""

import functools
import io

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from aocr.charset import Charset
from aocr.data import pipeline
from aocr.data.records import to_example
from aocr.graph import text
from aocr.graph.preprocess import prepare_image

WIDTHS = [5, 40, 7, 33, 6, 39, 8]
LABELS = ["AB", "", "B", "ABBA", "A", "BB", "AAA"]
CHARSET = Charset("AB")  # A is 3, B is 4


@pytest.fixture
def dataset(tmp_path):
    """Seven records of other widths and labels."""
    path = str(tmp_path / "data")
    with tf.io.TFRecordWriter(path) as writer:
        for number, (width, label) in enumerate(zip(WIDTHS, LABELS)):
            file = io.BytesIO()
            Image.fromarray(np.full((32, width), 10 * number, np.uint8)).save(file, "PNG")
            writer.write(to_example(file.getvalue(), label, f"c{number}").SerializeToString())
    return path


def read(path, batch_size, skip=(), seed=None, image_bytes=4 * 32 * 40):
    """All batches of one pass, or one pass for each of a list of seeds."""
    with tf.Graph().as_default():
        seed_input = tf.placeholder(tf.int64, [])
        batches = pipeline.batches(
            [path], batch_size=batch_size, skip=skip, image_bytes=image_bytes,
            prepare=functools.partial(prepare_image, canvas_width=40, channels=1),
            to_sequences=lambda label: text.teaching_sequences(text.text_to_ids(label, CHARSET)),
            shuffle_seed=None if seed is None else seed_input)
        iterator = tf.data.make_initializable_iterator(batches)
        fetched = iterator.get_next()
        passes = []
        with tf.Session() as session:
            for value in [0] if seed is None else seed:
                session.run(iterator.initializer, {seed_input: value})
                passes.append([])
                while True:
                    try:
                        passes[-1].append(session.run(fetched))
                    except tf.errors.OutOfRangeError:
                        break
    return passes[0] if seed is None else passes


def test_a_whole_batch(dataset):
    first, *rest = read(dataset, batch_size=3)
    assert [len(batch.numbers) for batch in rest] == [3, 1]
    assert first.numbers.tolist() == [0, 4, 2]  # the narrowest three, by width
    assert first.widths.tolist() == [5, 6, 7]
    assert first.pixels.shape == (3, 32, 7, 1)  # padded to their own widest, not to the canvas
    assert first.inputs.tolist() == [[1, 3, 4],  # GO A B
                                     [1, 3, 0],  # GO A
                                     [1, 4, 0]]  # GO B
    assert first.targets.tolist() == [[3, 4, 2],  # A B EOS
                                      [3, 2, 0],  # A EOS
                                      [4, 2, 0]]  # B EOS
    assert first.weights.tolist() == [[1, 1, 1], [1, 1, 0], [1, 1, 0]]
    assert first.labels.tolist() == [b"AB", b"A", b"B"]
    assert first.comments.tolist() == [b"c0", b"c4", b"c2"]
    np.testing.assert_allclose(first.pixels[1, :, :6], (40 - 128) / 128, atol=1e-5)
    assert not first.pixels[1, :, 6:].any()


def test_every_sample_is_used_once_in_every_order(dataset):
    for passed in [read(dataset, 3), *read(dataset, 3, seed=[5, 6]), read(dataset, 99), read(dataset, 1)]:
        assert sorted(np.concatenate([batch.numbers for batch in passed])) == list(range(7))


def test_skipped_records_are_left_out_and_numbers_stay(dataset):
    numbers = np.concatenate([batch.numbers for batch in read(dataset, 2, skip={1, 4})])
    assert sorted(numbers) == [0, 2, 3, 5, 6]


def test_a_seed_is_an_order(dataset):
    orders = [[batch.numbers.tolist() for batch in passed] for passed in read(dataset, 2, seed=[5, 6, 5])]
    assert orders[0] == orders[2] != orders[1]


def test_a_window_is_bounded_by_memory(dataset):
    """Where only one batch fits in the window, samples come in the dataset's order, batch by batch."""
    passed = read(dataset, batch_size=2, image_bytes=pipeline.WINDOW_BYTES)
    assert [sorted(batch.numbers.tolist()) for batch in passed] == [[0, 1], [2, 3], [4, 5], [6]]
