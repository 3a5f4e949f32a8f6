"""From a dataset to batches, inside a graph: decode in parallel, sort by width, pad, prefetch."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.data.records import numbered_records, parse_example

if TYPE_CHECKING:
    from aocr.data.scanning import DatasetStatistics

SHUFFLE_RECORDS = 4096  # encoded images that wait in the shuffle buffer, at the most
WINDOW_BYTES = 128 << 20  # of decoded images that are sorted by width together, at the most
WINDOW_BATCHES = 40  # the same, in batches
MOST_ROWS = 4  # times the batch size, of images in a batch of narrow ones

plain = tf.autograph.experimental.do_not_convert  # nothing here needs it, and it takes seconds


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
    index: tf.Tensor  # [] int64: the batch's number in its pass, from 0


def batches(scan: "DatasetStatistics", *, batch_size: int, image_bytes: int, prepare: Callable[[tf.Tensor], tuple],
            to_sequences: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
            epochs: tuple[tf.Tensor, tf.Tensor] | None = None, first_batch: tf.Tensor | int = 0,
            replica: tuple[int, int] = (0, 1), cache: bool = False,
            augment: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor] | None = None) -> tf.data.Dataset:
    """The batches of one pass over a dataset, or of several; the last one of each may be smaller.

    Args:
      scan: of the dataset, or of a part of it; what it found unreadable is left out.
      batch_size: samples of the mean width in a batch; `area_spans` tells how others are cut.
      image_bytes: memory that the largest prepared image takes.
      prepare: encoded bytes (string []) -> (pixels [H, w, C] float32, width, ...).
      to_sequences: a label (string []) -> (inputs, targets), int32 [t] each.
      epochs: a range (first, end), int64 [] each: one pass for each number, its samples and batches shuffled by it.
        None: one pass, windows in the dataset's order, and in a window (at most WINDOW_BATCHES batches) samples by
        width.
      first_batch: int64 [], batches that the first pass leaves out, as if they had been used before.
      replica: (number, count): of the samples, which share this is; each of `count` replicas gets another one.
      cache: whether prepared images stay in memory from the first pass on.
      augment: a prepared image ([H, w, C] float32), the pass's number and the record's (int64 []) -> an image of the
        same shape: another one in each pass, cached or not. None: images as they are.

    Returns: a dataset of Batch.
    """
    made = _Batches(scan, batch_size, image_bytes, prepare, to_sequences, epochs, first_batch, replica, cache, augment)
    passes = tf.data.Dataset.range(*(epochs or (1,)))
    # A window is made while the batches of the one before are used, across the ends of passes too.
    result = passes.flat_map(made.windows).prefetch(1).flat_map(made.cut).prefetch(2)
    options = tf.data.Options()
    options.experimental_warm_start = True  # the first window is made while TensorFlow still looks at the graph
    options.autotune.enabled = False  # with it, epochs of a minute and more were seen to end in a wait of 50 s
    return result.with_options(options)


class _Batches:
    """How a dataset becomes batches: the functions that tf.data maps, and what they have in common."""

    def __init__(self, scan, batch_size, image_bytes, prepare, to_sequences, epochs, first_batch, replica, cache,
                 augment):
        """As `batches`."""
        self._scan, self._prepare, self._to_sequences, self._augment = scan, prepare, to_sequences, augment
        self._replica, self._batch_size = replica, batch_size
        self._window_batches = max(1, min(WINDOW_BATCHES, WINDOW_BYTES // (image_bytes * batch_size)))
        self._shuffled, self._first_epoch = epochs is not None, epochs[0] if epochs else 0
        self._first_batch = tf.cast(first_batch, tf.int64)
        self._kept = self._prepared(self._usable_records()).cache() if cache else None

    @plain
    def windows(self, epoch: tf.Tensor) -> tf.data.Dataset:
        """One pass's samples, in groups that are then sorted by width, and numbered from 0."""
        skipped = self._in_first_pass(epoch, self._first_batch // self._window_batches)  # lie before its first batch
        window = self._batch_size * self._window_batches
        if self._kept is not None:
            samples = self._shuffle(self._kept, epoch).skip(skipped * window)
        else:
            records = self._usable_records(epoch if self._shuffled else None)
            samples = self._prepared(self._shuffle(records, epoch).skip(skipped * window))
        if self._augment:
            samples = samples.map(plain(lambda *parts: self._vary(epoch, *parts)),
                                  num_parallel_calls=tf.data.AUTOTUNE)
        return samples.ragged_batch(window).enumerate(skipped).map(plain(lambda number, parts: (epoch, number, *parts)))

    @plain
    def cut(self, epoch: tf.Tensor, number: tf.Tensor, *parts: tf.Tensor | tf.RaggedTensor) -> tf.data.Dataset:
        """A window's samples, sorted by width and cut into batches."""
        widths = parts[0].row_lengths()
        order = tf.argsort(widths, stable=True)
        spans = tf.data.Dataset.from_tensor_slices(area_spans(tf.gather(widths, order), self._batch_size))
        if self._shuffled:
            spans = spans.shuffle(WINDOW_BATCHES, seed=epoch)
        before = number * self._window_batches  # batches of the windows before
        left_out = self._in_first_pass(epoch, tf.maximum(self._first_batch - before, 0))
        return spans.enumerate(before).skip(left_out).map(plain(lambda index, span: _to_batch(
            epoch, index, *(tf.gather(part, order[span[0]:span[1]]) for part in parts))))

    def _in_first_pass(self, epoch, value):
        """An int64 [] in the first pass, 0 in the others."""
        return tf.where(tf.equal(epoch, self._first_epoch), value, 0)

    def _shuffle(self, samples, epoch):
        return samples.shuffle(SHUFFLE_RECORDS, seed=epoch) if self._shuffled else samples

    def _usable_records(self, seed=None):
        """What is trained on or read of the scan's records, in the order that a seed chooses."""
        scan, (number, count) = self._scan, self._replica
        records = numbered_records(scan, seed)
        if scan.unreadable:
            left_out = tf.constant(np.array(sorted(scan.unreadable), np.int64))
            records = records.filter(plain(lambda number, _: tf.reduce_all(tf.not_equal(number, left_out))))
        if scan.selection:
            records = records.filter(plain(lambda number, _: scan.selection.keeps(number)))
        return records.shard(count, number) if count > 1 else records

    def _prepared(self, records):
        return records.map(self._to_sample, num_parallel_calls=tf.data.AUTOTUNE)

    @plain
    def _to_sample(self, number, serialized):
        """A record's parts, of which the first is its prepared image: [w, H, C], the ragged axis first."""
        record = parse_example(serialized)
        columns = tf.transpose(self._prepare(record["image"])[0], [1, 0, 2])
        encoded = "" if self._shuffled else record["image"]
        return (columns, *self._to_sequences(record["label"]), number, record["label"], record["comment"], encoded)

    def _vary(self, epoch, columns, inputs, targets, number, *texts):
        """A sample with a variant of its image, which is turned to [H, w, C] for it."""
        columns = tf.transpose(self._augment(tf.transpose(columns, [1, 0, 2]), epoch, number), [1, 0, 2])
        return columns, inputs, targets, number, *texts


def area_spans(widths: tf.Tensor, batch_size: int) -> tf.Tensor:
    """Where to cut samples that are sorted by width, so that batches have about equal areas instead of equal counts.

    There are as many batches as of `batch_size` samples each. One's area is that of `batch_size` samples of the mean
    width; where all widths are equal, so are the counts, but for the last one's. What is more than MOST_ROWS times
    narrower than the mean counts as that wide, so that a batch has at most so many times `batch_size` samples; what is
    wider than a whole batch counts as one.

    Args: widths: int64 [n], n >= 1, rising.
    Returns: int64 [batches, 2], the first sample of each batch and the one after its last; none is empty.
    """
    with tf.name_scope("area_spans"):
        size = tf.size(widths, out_type=tf.int64)
        batches = (size + batch_size - 1) // batch_size
        # In MOST_ROWS * size parts of a pixel, so that all is exact; a mean width has `mean` of them.
        mean = MOST_ROWS * tf.reduce_sum(widths)
        costs = tf.clip_by_value(MOST_ROWS * size * widths, mean // MOST_ROWS, mean * batch_size)
        before = tf.cumsum(costs, exclusive=True)  # what the samples before each one cost
        numbers = tf.range(batches)
        starts = tf.searchsorted(before * size, numbers * batch_size * tf.reduce_sum(costs), out_type=tf.int64)
        # A batch of one sample at least: where one begins, so many samples lie before it, and so many after.
        pushed = tf.where(numbers[:, tf.newaxis] >= numbers, tf.broadcast_to(starts - numbers, [batches, batches]),
                          tf.fill([batches, batches], tf.constant(0, tf.int64)))
        starts = tf.minimum(tf.reduce_max(pushed, 1) + numbers, size - batches + numbers)
        return tf.stack([starts, tf.concat([starts[1:], [size]], 0)], 1)


def shard_size(records: int, replica: tuple[int, int]) -> int:
    """How many of so many records are the share of a replica: (number, count)."""
    number, count = replica
    return -(-(records - number) // count)


def _to_batch(epoch, index, columns, inputs, targets, numbers, labels, comments, encoded):
    """Ragged columns, inputs and targets -> Batch."""
    padded = columns.to_tensor()  # [N, W, H, C]
    return Batch(
        pixels=tf.transpose(padded, [0, 2, 1, 3]), widths=tf.cast(columns.row_lengths(), tf.int32),
        inputs=inputs.to_tensor(), targets=targets.to_tensor(),
        weights=tf.sequence_mask(targets.row_lengths(), dtype=tf.float32),
        numbers=numbers, labels=labels, comments=comments, encoded=encoded, epoch=epoch,
        index=index)
