"""The input pipeline: every sample once, padded within its batch, with label sequences."""

import functools
import io
import os
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from aocr.charset import Charset
from aocr.data import pipeline
from aocr.data.pipeline import Source
from aocr.data.records import to_example
from aocr.data.scanning import DatasetStatistics, Selection
from aocr.data.shard import Shard
from aocr.graph import text
from aocr.graph.preprocess import prepare_image

WIDTHS = [5, 40, 7, 33, 6, 39, 8]
LABELS = ["AB", "", "B", "ABBA", "A", "BB", "AAA"]
CHARSET = Charset("AB")  # A is 3, B is 4


@pytest.fixture
def dataset(tmp_path):
    """Writes seven records of different widths and labels."""
    path = str(tmp_path / "data")
    with tf.io.TFRecordWriter(path) as writer:
        for number, (width, label) in enumerate(zip(WIDTHS, LABELS)):
            file = io.BytesIO()
            Image.fromarray(np.full((32, width), 10 * number, np.uint8)).save(file, "PNG")
            writer.write(to_example(file.getvalue(), label, f"c{number}").SerializeToString())
    return path


WHOLE = Shard()


def read(path, batch_size, skip=(), epochs=None, image_bytes=4 * 32 * 40, cache=False,
         augment=None, first_batch=0, shard=WHOLE, selection=None):
    """Returns all batches of one pass in order, or of the shuffled passes in `epochs`."""
    scan = DatasetStatistics(path, [path] if isinstance(path, str) else path,
                             unreadable=dict.fromkeys(skip, "for a test"))
    scan.starts = [7 * k for k in range(len(scan.files))]
    scan.selection = selection
    with tf.Graph().as_default():
        batches = Source(scan, batch_size, shard, cache).batches(
            image_bytes=image_bytes,
            prepare=functools.partial(prepare_image, canvas_width=40, channels=1),
            to_sequences=lambda label: text.teaching_sequences(text.text_to_ids(label, CHARSET)),
            epochs=epochs and [tf.constant(end, tf.int64) for end in epochs], augment=augment, first_batch=first_batch)
        iterator = tf.data.make_initializable_iterator(batches)
        fetched = iterator.get_next()
        got = []
        with tf.Session() as session:
            session.run(iterator.initializer)
            while True:
                try:
                    got.append(session.run(fetched))
                except tf.errors.OutOfRangeError:
                    return got


def by_epoch(batches):
    """Returns {epoch: record numbers of each batch, in order}."""
    epochs = {}
    for batch in batches:
        epochs.setdefault(int(batch.epoch), []).append(batch.numbers.tolist())
    return epochs


def test_a_whole_batch(dataset):
    """Two images of the mean width, 20 pixels, or the four narrowest, whose total width is similar."""
    first, *rest = read(dataset, batch_size=2)
    assert [batch.widths.tolist() for batch in rest] == [[33], [39], [40]]
    assert first.numbers.tolist() == [0, 4, 2, 6]  # by width
    assert first.widths.tolist() == [5, 6, 7, 8]
    assert first.pixels.shape == (4, 32, 8, 1)  # padded to the widest of the batch, not to the canvas
    assert first.inputs.tolist() == [[1, 3, 4, 0],  # GO A B
                                     [1, 3, 0, 0],  # GO A
                                     [1, 4, 0, 0],  # GO B
                                     [1, 3, 3, 3]]  # GO A A A
    assert first.targets.tolist() == [[3, 4, 2, 0],  # A B EOS
                                      [3, 2, 0, 0],  # A EOS
                                      [4, 2, 0, 0],  # B EOS
                                      [3, 3, 3, 2]]  # A A A EOS
    assert first.weights.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    assert first.labels.tolist() == [b"AB", b"A", b"B", b"AAA"]
    assert first.comments.tolist() == [b"c0", b"c4", b"c2", b"c6"]
    np.testing.assert_allclose(first.pixels[1, :, :6], (40 - 128) / 128, atol=1e-5)
    assert not first.pixels[1, :, 6:].any()


def test_every_sample_is_used_once_in_every_order(dataset):
    for passed in [read(dataset, 3), read(dataset, 99), read(dataset, 1), read(dataset, 3, epochs=[5, 6]),
                   read(dataset, 1, cache=True)]:
        assert sorted(np.concatenate([batch.numbers for batch in passed])) == list(range(7))


@pytest.mark.parametrize("cache", [False, True])
def test_an_epochs_number_is_its_order(dataset, cache):
    together = by_epoch(read(dataset, 2, epochs=[5, 8], cache=cache))
    assert list(together) == [5, 6, 7]
    for numbers in together.values():
        assert sorted(len(batch) for batch in numbers) == [1, 1, 1, 4]
        assert sorted(sum(numbers, [])) == list(range(7))
    assert together[5] != together[6] != together[7]
    assert by_epoch(read(dataset, 2, epochs=[6, 7], cache=cache)) == {6: together[6]}, "6 depends on the previous epoch"


@pytest.mark.parametrize("cache, window", [(True, 1), (False, 2), (True, 40)])  # the window in batches
def test_a_pass_goes_on_at_any_batch(dataset, cache, window, monkeypatch):
    monkeypatch.setattr(pipeline, "WINDOW_BATCHES", window)
    whole = read(dataset, 2, epochs=[5, 7], cache=cache)
    assert [(int(batch.epoch), int(batch.index)) for batch in whole] == [(e, k) for e in (5, 6) for k in range(4)]
    for first in range(5):
        rest = read(dataset, 2, epochs=[5, 7], cache=cache, first_batch=first)
        assert [batch.numbers.tolist() for batch in rest] == [batch.numbers.tolist() for batch in whole[first:]]
        assert [int(batch.index) for batch in rest] == [int(batch.index) for batch in whole[first:]]


def test_replicas_share_the_samples(dataset):
    shares = [np.concatenate([batch.numbers for batch in read(dataset, 2, epochs=[3, 4], shard=Shard(k, 3))])
              for k in range(3)]
    assert sorted(map(len, shares)) == [2, 2, 3]
    assert sorted(np.concatenate(shares)) == list(range(7))


def test_what_is_held_out_is_not_trained_on(dataset):
    parts = [sorted(np.concatenate([batch.numbers for batch in read(dataset, 2, selection=Selection(0.3, held_out))]))
             for held_out in (False, True)]
    # The fractional parts of number * 2654435769 / 2**32 are 0, 0.618, 0.236, 0.854, 0.472, 0.090, 0.708.
    assert parts == [[1, 3, 4, 6], [0, 2, 5]]


def test_several_files_are_mixed_and_their_records_keep_their_numbers(dataset, tmp_path):
    files = [dataset]
    for name in ("second", "third"):
        files.append(str(tmp_path / name))
        shutil.copy(dataset, files[-1])
    in_order = read(files, 1, image_bytes=pipeline.WINDOW_BYTES)
    assert [int(batch.numbers[0]) for batch in in_order] == list(range(21))
    shuffled = read(files, 4, epochs=[0, 1])
    assert sorted(np.concatenate([batch.numbers for batch in shuffled])) == list(range(21))
    assert {batch.labels[k]: LABELS[number % 7] for batch in shuffled for k, number in enumerate(batch.numbers)} == {
        label.encode(): label for label in LABELS}


def test_a_cache_reads_the_dataset_once(dataset):
    """Later passes have the same pixels, although the file is deleted after the first batch."""
    with tf.Graph().as_default():
        scan = DatasetStatistics(dataset, [dataset], starts=[0])
        batches = Source(scan, batch_size=7, cache=True).batches(
            image_bytes=4 * 32 * 40,
            prepare=functools.partial(prepare_image, canvas_width=40, channels=1),
            to_sequences=lambda label: text.teaching_sequences(text.text_to_ids(label, CHARSET)),
            epochs=[tf.constant(0, tf.int64), tf.constant(9, tf.int64)])
        iterator = tf.data.make_initializable_iterator(batches)
        fetched = iterator.get_next()
        with tf.Session() as session:
            session.run(iterator.initializer)
            first = session.run(fetched)
            os.remove(dataset)
            for _ in range(8):
                later = session.run(fetched)
    np.testing.assert_array_equal(later.pixels, first.pixels)
    assert (int(first.epoch), int(later.epoch)) == (0, 8)


@pytest.mark.parametrize("cache", [False, True])
def test_images_are_augmented_by_epoch_and_record(dataset, cache):
    """Augmentation follows the cache, so each pass has its own variants."""
    def stamped(pixels, epoch, number):
        assert pixels.shape.as_list() == [32, None, 1]
        return tf.ones_like(pixels) * tf.cast(100 * epoch + number, tf.float32)

    for batch in read(dataset, 3, epochs=[4, 6], cache=cache, augment=stamped):
        for pixels, width, number in zip(batch.pixels, batch.widths, batch.numbers):
            assert width == WIDTHS[number]
            assert (pixels[:, :width] == 100 * batch.epoch + number).all() and not pixels[:, width:].any()


def test_only_a_pass_in_order_keeps_the_files(dataset):
    in_order, shuffled = read(dataset, 7)[0], read(dataset, 7, epochs=[0, 1])[0]
    assert all(encoded.startswith(b"\x89PNG") for encoded in in_order.encoded)
    assert shuffled.encoded.tolist() == [b""] * 7


def test_skipped_records_are_left_out_and_numbers_stay(dataset):
    numbers = np.concatenate([batch.numbers for batch in read(dataset, 2, skip={1, 4})])
    assert sorted(numbers) == [0, 2, 3, 5, 6]


def test_a_window_is_bounded_by_memory(dataset):
    """If a window holds only one batch, batches follow dataset order."""
    passed = read(dataset, batch_size=2, image_bytes=pipeline.WINDOW_BYTES)
    assert [sorted(batch.numbers.tolist()) for batch in passed] == [[0, 1], [2, 3], [4, 5], [6]]


@pytest.mark.parametrize("widths, batch_size, spans", [
    ([5] * 10, 3, [3, 3, 3, 1]),  # equal widths: equal counts, and the remainder
    ([7], 32, [1]),
    ([10] * 8 + [40] * 2, 5, [8, 2]),  # mean 16, hence 80 pixels per batch: eight narrow or two wide images
    ([1] * 50 + [100] * 14, 8, [38, 14, 2, 2, 2, 2, 2, 2]),  # width 1 counts as a quarter of the mean, 5.7 pixels
    ([10] * 30 + [2000], 4, [6, 6, 6, 6, 4, 1, 1, 1]),  # widths above the area of a batch are clipped to it
])
def test_batches_have_about_equal_areas(run_graph, widths, batch_size, spans):
    got = run_graph(lambda widths: pipeline.area_spans(widths, batch_size), widths=np.array(widths, np.int64))
    assert (got[:, 1] - got[:, 0]).tolist() == spans
    assert got[0, 0] == 0 and got[1:, 0].tolist() == got[:-1, 1].tolist() and got[-1, 1] == len(widths)


def test_no_batch_is_empty_whatever_the_widths(run_graph):
    random = np.random.RandomState(9)
    for _ in range(20):
        widths = np.sort(random.randint(1, random.choice([5, 100, 3000]), random.randint(1, 60)) ** 2).astype(np.int64)
        batch_size = int(random.randint(1, 20))
        got = run_graph(lambda widths, size=batch_size: pipeline.area_spans(widths, size), widths=widths)
        counts = got[:, 1] - got[:, 0]
        assert len(counts) == -(-len(widths) // batch_size) and counts.min() >= 1 and counts.sum() == len(widths)
