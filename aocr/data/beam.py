"""Builds datasets as an Apache Beam pipeline: same rows, checks and records, in no fixed order."""

import logging
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.typehints.decorators import no_annotations

from aocr.aside import is_stream
from aocr.config import DatasetConfig
from aocr.data.background import with_background
from aocr.data.build import (
    DUPLICATE,
    Counts,
    Part,
    check_usable,
    note_empty,
    outputs_of,
    part_number,
    prepare,
    serialize,
)
from aocr.data.checks import Checked, check
from aocr.data.formats import read_rows
from aocr.data.rows import STDIN, Rejected, Row
from aocr.data.workers import TensorFlowDecoder
from aocr.errors import usage_error

log = logging.getLogger(__name__)

COUNTERS = "aocr"  # namespace of the pipeline's counters
REJECTED = "rejected"  # output tag of unusable rows


def make_dataset(inputs: list[str], output: str, config: DatasetConfig,
                 beam_arguments: list[str]) -> tuple[Counts, list[Part]]:
    """Writes datasets like `build.make_dataset`, on Beam and without sidecars.

    Args: as there; beam_arguments: flags passed on to the runner.
    Raises: UserError as there.
    """
    if STDIN in inputs:
        raise usage_error("--runner does not read standard input; name a file")
    if config.rejects and is_stream(config.rejects):
        raise usage_error(f"--rejects {config.rejects}: a --runner writes to files only; name a file")
    sources, label_pattern, parts = prepare(inputs, output, config)
    config = with_background(config, sources)
    with outputs_of([file for part in parts for file in part.files], output, config) as whole:
        counts = _run(sources, label_pattern, parts, config, beam_arguments, whole)
        check_usable(counts, inputs, config)
    log.info("%s: %d records written, %d rows skipped%s", output, counts.written, counts.skipped, counts.problems())
    return counts, parts


def _run(sources, label_pattern, parts, config, beam_arguments, whole):
    """Runs the pipeline, which writes to the temporary files of `whole` (WholeFiles). Returns Counts."""
    pipeline = beam.Pipeline(runner=config.runner, options=PipelineOptions(beam_arguments))
    rows = (pipeline | beam.Create(sources)
            | "read" >> beam.FlatMap(lambda source: read_rows(source[0], source[1], label_pattern, None))
            | beam.Reshuffle())  # otherwise one worker would check all rows of a file
    checked = rows | beam.ParDo(Check(config, parts)).with_outputs(REJECTED, main="checked")
    (checked.checked | beam.Map(_by_image) | beam.GroupByKey() | beam.FlatMap(_conflicts))
    split = checked.checked | beam.Partition(lambda row, _: part_number(row, parts, config), len(parts))
    for number, (part, rows_of_part) in enumerate(zip(parts, split)):
        (rows_of_part | f"serialize {number}" >> beam.Map(no_annotations(serialize), config)
         | f"write {number}" >> _writer(whole.part(part.files[0]), config))
    if config.rejects:
        (checked[REJECTED] | beam.Filter(lambda row: row.raw is not None)
         | "raw" >> beam.Map(lambda row: row.raw)
         | beam.io.WriteToText(whole.part(config.rejects), shard_name_template="", coder=beam.coders.BytesCoder()))
    result = pipeline.run()
    result.wait_until_finish()
    counts, written = _counts(result, len(parts))
    note_empty(parts, written, counts, config)
    return counts


class Check(beam.DoFn):
    """Row or Rejected -> Checked, or Rejected under its tag; counts and logs both."""

    def __init__(self, config: DatasetConfig, parts: list[Part]):
        super().__init__()
        self._config, self._parts = config, parts

    def setup(self) -> None:
        """Starts the decoder, once per worker."""
        self._decoder = TensorFlowDecoder(self._config.max_pixels).__enter__()

    def teardown(self) -> None:
        """Closes the decoder."""
        self._decoder.__exit__()

    @no_annotations  # from annotations, Beam would derive type checks and coders
    def process(self, row: Row | Rejected) -> Iterator[Checked | beam.pvalue.TaggedOutput]:
        """Checks one row."""
        checked, = self._decoder.reject_undecodable([check(row, self._config)])
        if isinstance(checked, Rejected):
            _count("rejected", checked.kind)
            log.warning("%s:%d: skipped, %s: %s", *checked[:2], checked.kind, checked.reason)
            yield beam.pvalue.TaggedOutput(REJECTED, checked)
            return
        for kind, text in checked.notes:
            _count("noted", kind)
            log.warning("%s:%d: %s: %s", *checked.row[:2], kind, text)
        if checked.rewritten:
            _count("rewritten", checked.kind)
        _count("written", part_number(checked, self._parts, self._config))
        yield checked


def _by_image(checked: Checked):
    image, label = checked.digests
    return image, (label, *checked.row[:2])


def _conflicts(group):
    """Logs rows of one image whose label differs from that of the first row in source order."""
    _, rows = group
    (first, *place), *others = sorted(rows, key=lambda row: row[1:])
    for label, source, number in others:
        if label != first:
            _count("noted", DUPLICATE)
            log.warning("%s:%d: %s: same image as %s:%d; fix the wrong label", source, number, DUPLICATE, *place)
    return ()


def _count(what, kind):
    Metrics.counter(COUNTERS, f"{what}:{kind}").inc()


def _writer(first, config):
    """Returns the writer of a part, from the temporary path of its first file."""
    compression = beam.io.filesystem.CompressionTypes.GZIP if config.compression == "gzip" else (
        beam.io.filesystem.CompressionTypes.UNCOMPRESSED)
    if config.shards == 1:
        return beam.io.WriteToTFRecord(first, num_shards=1, shard_name_template="", compression_type=compression)
    stem, extension = first.rsplit(f"-00000-of-{config.shards:05d}", 1)
    return beam.io.WriteToTFRecord(stem, file_name_suffix=extension, num_shards=config.shards,
                                  compression_type=compression)


def _counts(result, parts):
    """Returns the pipeline's counters: Counts, and the number of records of each part."""
    counts, written = Counts(), [0] * parts
    for counter in result.metrics().query()["counters"]:
        if counter.key.metric.namespace == COUNTERS:
            what, _, kind = counter.key.metric.name.partition(":")
            if what == "written":
                written[int(kind)] = counter.result
            else:
                getattr(counts, what)[kind] += counter.result
    counts.written = sum(written)
    return counts, written
