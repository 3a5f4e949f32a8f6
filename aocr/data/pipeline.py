"""From a dataset to batches, inside a graph: decode in parallel, sort by width, pad, prefetch."""

from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.data.records import parse_example, read_files

SHUFFLE_RECORDS = 4096  # encoded images that wait in the shuffle buffer, at the most
WINDOW_BYTES = 64 << 20  # of decoded images that are sorted by width together, at the most
WINDOW_BATCHES = 16  # the same, in batches


class Batch(NamedTuple):
    """Samples of like widths: images padded with 0 to the widest, sequences with 0 to the longest label and EOS."""

    pixels: tf.Tensor  # [N, H, W, C] float32
    widths: tf.Tensor  # [N] int32
    inputs: tf.Tensor  # [N, T] int32: GO and the label
    targets: tf.Tensor  # [N, T] int32: the label and EOS
    weights: tf.Tensor  # [N, T] float32: 1 for targets that count
    numbers: tf.Tensor  # [N] int64: the record's number in the dataset, from 0
    labels: tf.Tensor  # [N] string, UTF-8
    comments: tf.Tensor  # [N] string, UTF-8
    encoded: tf.Tensor  # [N] string, the image files


def batches(files, *, batch_size, skip, image_bytes, prepare, to_sequences, shuffle_seed=None):
    """The batches of one pass over a dataset; the last one may be smaller.

    Args:
      files: paths of the dataset's files.
      batch_size: int.
      skip: numbers of the records to leave out (those that `records.scan` found unreadable).
      image_bytes: int, memory that the largest prepared image takes.
      prepare: function of encoded bytes (string []) -> (pixels [H, w, C] float32, width, ...).
      to_sequences: function of a label (string []) -> (inputs, targets), int32 [t] each.
      shuffle_seed: int64 [] tensor: samples and batches come shuffled by it. None: windows come in the dataset's
        order, and within a window (at most WINDOW_BATCHES batches) samples come by width.

    Returns: tf.data.Dataset of Batch.
    """
    plain = tf.autograph.experimental.do_not_convert  # nothing here needs it, and it takes seconds
    window = batch_size * max(1, min(WINDOW_BATCHES, WINDOW_BYTES // (image_bytes * batch_size)))

    @plain
    def sample(number, serialized):
        record = parse_example(serialized)
        columns = tf.transpose(prepare(record["image"])[0], [1, 0, 2])  # [w, H, C]: the ragged axis first
        return (columns, *to_sequences(record["label"]), number, record["label"], record["comment"], record["image"])

    @plain
    def cut(*window_parts):
        """A window's samples, sorted by width and cut into batches."""
        widths = window_parts[0].row_lengths()
        order = tf.argsort(widths, stable=True)
        starts = tf.data.Dataset.range(0, tf.size(order, out_type=tf.int64), batch_size)
        return starts.map(plain(lambda start: _to_batch(
            *(tf.gather(part, order[start:start + batch_size]) for part in window_parts))))

    samples = read_files(files).enumerate()
    if skip:
        left_out = tf.constant(np.array(sorted(skip), np.int64))
        samples = samples.filter(plain(lambda number, _: tf.reduce_all(tf.not_equal(number, left_out))))
    if shuffle_seed is not None:
        samples = samples.shuffle(SHUFFLE_RECORDS, seed=shuffle_seed)
    samples = samples.map(sample, num_parallel_calls=tf.data.AUTOTUNE)
    result = samples.ragged_batch(window).flat_map(cut)
    if shuffle_seed is not None:
        result = result.shuffle(WINDOW_BATCHES, seed=shuffle_seed)
    options = tf.data.Options()
    options.autotune.enabled = False  # with it, epochs of a minute and more were seen to end in a wait of 50 s
    return result.prefetch(2).with_options(options)


def _to_batch(columns, inputs, targets, numbers, labels, comments, encoded):
    """Ragged columns, inputs and targets -> Batch."""
    padded = columns.to_tensor()  # [N, W, H, C]
    return Batch(
        pixels=tf.transpose(padded, [0, 2, 1, 3]), widths=tf.cast(columns.row_lengths(), tf.int32),
        inputs=inputs.to_tensor(), targets=targets.to_tensor(),
        weights=tf.sequence_mask(targets.row_lengths(), dtype=tf.float32),
        numbers=numbers, labels=labels, comments=comments, encoded=encoded)
