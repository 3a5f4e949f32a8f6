"""Plans a run before anything is written: data, model, checkpoint to resume, options."""

import dataclasses
import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from aocr import checkpoint, original
from aocr.augment.recipes import automatic, find_recipe
from aocr.charset import Charset
from aocr.checkpoint import Description, Trained
from aocr.config import (
    AUTO_AUGMENTATION,
    BATCH_COLUMNS,
    CACHED_BYTES,
    CTC_WEIGHT,
    IMAGE_HEIGHT,
    MOST_IMAGES,
    ORIGINAL_BATCH,
    ModelConfig,
    TrainConfig,
)
from aocr.data import fit, scanning
from aocr.data.background import background_of, warn_of_other_background
from aocr.data.pipeline import Source
from aocr.data.scanning import DatasetStatistics
from aocr.data.shard import Shard
from aocr.errors import UserError, usage_error
from aocr.network import Network
from aocr.training import transfer
from aocr.training.graph import TrainingGraph, open_training_graph
from aocr.weights import shapes_in

log = logging.getLogger(__name__)

LEAST_IMAGES = 4  # minimum default of --batch-size, however wide the images
REPLICA_SEEDS = 1 << 16  # difference between the seeds of adjacent replicas


class Plan(NamedTuple):
    """The data, model and options of a run."""

    scan: DatasetStatistics  # training data
    validation: DatasetStatistics | None
    description: Description
    newest: str | None  # checkpoint to resume
    source: Trained | None  # model to initialize a new one from
    config: TrainConfig  # unset options derived from the data


def prepare_run(dataset: str, model_dir: str, given: dict[str, Any], charset: Charset | None,
                config: TrainConfig) -> Plan:
    """Scans the data, reads the model directory and returns the Plan.

    Args: as of `run.train`.
    Raises: UserError if data, model and options do not fit together.
    """
    newest = checkpoint.latest_checkpoint(model_dir) if config.resume else None
    stored = checkpoint.read_description(model_dir) if newest else None
    if newest and not stored:
        names = checkpoint.attempt(shapes_in, newest)
        kind = "the original aocr wrote" if original.is_original(names) else "has no description"
        raise UserError(f"{model_dir}: training cannot resume from a checkpoint that {kind}; name another --model-dir "
                        "(add --init-from to start from these weights), or start from scratch with --no-resume")
    if stored:
        stored = checkpoint.with_flags(stored, given, charset, model_dir)
        _check_ctc(config, stored.config, model_dir)
    source = None
    if config.init_from and newest:
        log.info("--init-from has no effect: resuming from the checkpoint in %s", model_dir)
    elif config.init_from:
        described = checkpoint.read_description(config.init_from)
        # A source without a description is assumed to have the requested charset.
        source = checkpoint.find_model(config.init_from, transfer.of_source(given), None if described else charset)
    known = stored.config if stored else source.config if source else ModelConfig(**given)
    scan, validation = look_at_data(dataset, config, known.graphemes, given.get("max_pixels", known.max_pixels))
    if stored:
        description = stored
        remedy = f"The model in {model_dir} is fixed: correct the labels, or train a new one in another --model-dir"
    else:
        description = _describe(scan, given, charset, source, config)
        remedy = "Fix the labels, or leave out --full-ascii, --charset and --max-prediction to fit them to the data"
    fit.check_labels(scan, description.config, description.charset, remedy)
    for data in filter(None, (scan, validation)):
        warn_of_other_background(data, description.config.background)
    if validation:
        _warn_of_unknown(validation, description.charset)
    squeezed = scan.wider_than(description.config.canvas_width)
    log.info("canvas %d x %d: %d images are squeezed to it; charset of %s", description.config.canvas_width,
             IMAGE_HEIGHT, squeezed, description.charset.summary())
    return Plan(scan, validation, description, newest, source, settled(config, scan, description.config))


def _check_ctc(config, stored, model_dir):
    """Raises UserError if --ctc-weight contradicts the stored ModelConfig."""
    if config.ctc_weight is not None and bool(config.ctc_weight) != stored.ctc:
        raise usage_error(f"--ctc-weight is {config.ctc_weight:g}, but the model in {model_dir} has "
                          f"{'a' if stored.ctc else 'no'} CTC branch; leave the flag out")


def settled(config: TrainConfig, scan: DatasetStatistics, model_config: ModelConfig) -> TrainConfig:
    """Returns the options, with unset ones derived from the training data. `scan`: of that data."""
    width = mean_width(scan, model_config)
    batch_size = config.batch_size
    if batch_size is None:
        batch_size = ORIGINAL_BATCH
        if config.optimizer != "adadelta":
            batch_size = max(LEAST_IMAGES, min(MOST_IMAGES, round(BATCH_COLUMNS / width)))
    ctc_weight = 0.0
    if model_config.ctc:
        ctc_weight = CTC_WEIGHT if config.ctc_weight is None else config.ctc_weight
    log.info("batch size %d at the mean width of %.0f pixels; share of CTC in the loss %g", batch_size, width,
             ctc_weight)
    augment = automatic(scan.usable, config.optimizer) if config.augment == AUTO_AUGMENTATION else config.augment
    cache = config.cache or prepared_bytes(scan, model_config) <= CACHED_BYTES
    return dataclasses.replace(config, batch_size=batch_size, ctc_weight=ctc_weight, augment=augment, cache=cache)


def mean_width(scan: DatasetStatistics, config: ModelConfig) -> float:
    """Returns the mean width of the prepared images, in pixels."""
    return prepared_columns(scan, config) / max(1, sum(scan.widths.values()))


def look_at_data(dataset: str, config: TrainConfig, graphemes: bool,
                 max_pixels: int) -> tuple[DatasetStatistics, DatasetStatistics | None]:
    """Scans the data; returns (training, validation). `graphemes`, `max_pixels`: as in ModelConfig. UserError if one of
    them has no usable records or too many unreadable ones.
    """
    scan = scanning.scan(dataset, graphemes, max_pixels)
    _check_readable(scan, config.max_bad_records)
    if config.validation:
        validation = scanning.scan(config.validation, graphemes, max_pixels)
        _check_readable(validation, config.max_bad_records)
        return scan, validation
    if not config.validation_split:
        return scan, None
    scan, validation = scan.split(config.validation_split)
    if not (scan.usable and validation.usable):
        raise UserError(f"{dataset}: --validation-split {config.validation_split} leaves {scan.usable} records for "
                        f"training and {validation.usable} for validation; change the fraction or add data")
    log.info("%d records are held out for validation, %d are for training", validation.usable, scan.usable)
    return scan, validation


def _check_readable(scan, most):
    """Raises UserError if more than a fraction of a dataset's records is unreadable."""
    bad = len(scan.unreadable)
    if bad > most * scan.records:
        raise UserError(f"{scan.path}: {bad} of {scan.records} records cannot be read ({bad / scan.records:.2%}), as "
                        f"logged above; the limit is --max-bad-records {most:g}; rebuild the dataset or raise the "
                        "limit")


def _describe(scan, given, charset, source, config):
    """Returns the Description of a new model."""
    if source:
        given = {**given, **transfer.network_of(source.config)}
        charset = charset or transfer.charset_of(source, scan, config.charset_change)
    given = dict(given, ctc=config.ctc_weight != 0, right_to_left=fit.is_right_to_left(scan),
                 background=background_of(scan, given.get("background")))
    fitted, widened = fit.fit_config(scan, given)
    charset, added = fit.fit_charset(scan, charset)
    if widened or added:
        log.info("fitted to the data: %s", "; ".join(widened + added))
    return Description(fitted, charset)


def _warn_of_unknown(validation, charset):
    """Logs a warning if validation labels contain characters outside the charset."""
    unknown = sorted(character for character in validation.characters if character not in charset)
    if unknown:
        log.warning("%s: labels contain characters that the charset lacks and the model can never read: %s",
                    validation.path, charset.listed(unknown))


def graph_maker(scan: DatasetStatistics, description: Description, config: TrainConfig,
                shard: Shard) -> Callable[..., TrainingGraph]:
    """Returns a function of `session_config` and `placement` that builds the graph for a shard of a dataset.

    Raises: UserError if the augmentation is unknown, or a shard would have no records.
    """
    recipe = find_recipe(config.augment)
    if scan.usable < shard.count:
        raise UserError(f"{scan.path}: {scan.usable} records are too few for {shard.count} processes; use fewer "
                        "processes")
    if config.cache:
        log.info("caching the prepared images in memory: %.0f MB",
                 prepared_bytes(scan, description.config) / shard.count / 1e6)
    if recipe:
        log.info("augmentation %s: %s", config.augment, recipe)
    source = Source(scan, config.batch_size, shard, config.cache)
    # Replicas differ in dropout and augmentation.
    training = dataclasses.replace(config, seed=config.seed + REPLICA_SEEDS * shard.number)
    return functools.partial(open_training_graph, Network(description.config, description.charset), source, training,
                             recipe=recipe, precision=config.precision)


def prepared_bytes(scan: DatasetStatistics, config: ModelConfig) -> int:
    """Returns the memory of all prepared images of a dataset, in bytes."""
    return prepared_columns(scan, config) * config.image_bytes // config.canvas_width


def prepared_columns(scan: DatasetStatistics, config: ModelConfig) -> int:
    """Returns the total width of all prepared images of a dataset, in pixels."""
    return sum(min(width, config.canvas_width) * count for width, count in scan.widths.items())
