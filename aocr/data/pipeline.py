"""From a dataset to batches, inside a graph: decode in parallel, sort by width, pad, prefetch."""

from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.data.records import numbered_records, parse_example

SHUFFLE_RECORDS = 4096  # encoded images that wait in the shuffle buffer, at the most
WINDOW_BYTES = 128 << 20  # of decoded images that are sorted by width together, at the most
WINDOW_BATCHES = 40  # the same, in batches


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
    encoded: tf.Tensor  # [N] string, the image files; "" in shuffled passes, which need no memory for them
    epoch: tf.Tensor  # [] int64: of a shuffled pass, the number that its order follows from; else 0


def batches(scan, *, batch_size, image_bytes, prepare, to_sequences, epochs=None, cache=False, augment=None):
    """The batches of one pass over a dataset, or of several; the last one of each may be smaller.

    Args:
      scan: scanning.Scan of the dataset; what it found unreadable is left out.
      batch_size: int.
      image_bytes: int, memory that the largest prepared image takes.
      prepare: function of encoded bytes (string []) -> (pixels [H, w, C] float32, width, ...).
      to_sequences: function of a label (string []) -> (inputs, targets), int32 [t] each.
      epochs: a range (first, end) of int64 [] tensors: one pass for each number, its samples and batches shuffled by
        it. None: one pass, windows in the dataset's order, and in a window (at most WINDOW_BATCHES batches) samples
        by width.
      cache: bool, whether prepared images stay in memory from the first pass on.
      augment: function of a prepared image ([H, w, C] float32), the pass's number and the record's (int64 []) -> an
        image of the same shape: another one in each pass, cached or not. None: images as they are.

    Returns: tf.data.Dataset of Batch.
    """
    plain = tf.autograph.experimental.do_not_convert  # nothing here needs it, and it takes seconds
    window = batch_size * max(1, min(WINDOW_BATCHES, WINDOW_BYTES // (image_bytes * batch_size)))
    shuffled = epochs is not None

    @plain
    def sample(number, serialized):
        record = parse_example(serialized)
        columns = tf.transpose(prepare(record["image"])[0], [1, 0, 2])  # [w, H, C]: the ragged axis first
        encoded = "" if shuffled else record["image"]
        return (columns, *to_sequences(record["label"]), number, record["label"], record["comment"], encoded)

    def prepared(records):
        return records.map(sample, num_parallel_calls=tf.data.AUTOTUNE)

    def usable_records(seed=None):
        records = numbered_records(scan, seed)
        if scan.unreadable:
            left_out = tf.constant(np.array(sorted(scan.unreadable), np.int64))
            records = records.filter(plain(lambda number, _: tf.reduce_all(tf.not_equal(number, left_out))))
        return records

    def varied(epoch, columns, inputs, targets, number, *texts):
        """A sample with a variant of its image, which is turned to [H, w, C] for it."""
        columns = tf.transpose(augment(tf.transpose(columns, [1, 0, 2]), epoch, number), [1, 0, 2])
        return columns, inputs, targets, number, *texts

    kept = prepared(usable_records()).cache() if cache else None

    @plain
    def windows(epoch):
        """One pass's samples, in groups that are then sorted by width."""
        if cache:
            samples = kept.shuffle(SHUFFLE_RECORDS, seed=epoch) if shuffled else kept
        elif shuffled:
            samples = prepared(usable_records(epoch).shuffle(SHUFFLE_RECORDS, seed=epoch))
        else:
            samples = prepared(usable_records())
        if augment:
            samples = samples.map(plain(lambda *parts: varied(epoch, *parts)), num_parallel_calls=tf.data.AUTOTUNE)
        return samples.ragged_batch(window).map(plain(lambda *parts: (epoch, *parts)))

    @plain
    def cut(epoch, *parts):
        """A window's samples, sorted by width and cut into batches."""
        order = tf.argsort(parts[0].row_lengths(), stable=True)
        starts = tf.data.Dataset.range(0, tf.size(order, out_type=tf.int64), batch_size)
        if shuffled:
            starts = starts.shuffle(WINDOW_BATCHES, seed=epoch)
        return starts.map(plain(lambda start: _to_batch(
            epoch, *(tf.gather(part, order[start:start + batch_size]) for part in parts))))

    passes = tf.data.Dataset.range(*(epochs if shuffled else (1,)))
    # A window is made while the batches of the one before are used, across the ends of passes too.
    result = passes.flat_map(windows).prefetch(1).flat_map(cut).prefetch(2)
    options = tf.data.Options()
    options.experimental_warm_start = True  # the first window is made while TensorFlow still looks at the graph
    options.autotune.enabled = False  # with it, epochs of a minute and more were seen to end in a wait of 50 s
    return result.with_options(options)


def _to_batch(epoch, columns, inputs, targets, numbers, labels, comments, encoded):
    """Ragged columns, inputs and targets -> Batch."""
    padded = columns.to_tensor()  # [N, W, H, C]
    return Batch(
        pixels=tf.transpose(padded, [0, 2, 1, 3]), widths=tf.cast(columns.row_lengths(), tf.int32),
        inputs=inputs.to_tensor(), targets=targets.to_tensor(),
        weights=tf.sequence_mask(targets.row_lengths(), dtype=tf.float32),
        numbers=numbers, labels=labels, comments=comments, encoded=encoded, epoch=epoch)
