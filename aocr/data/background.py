"""The colour on which transparent images are laid: dataset, training and reading must agree on it."""

import dataclasses
import logging

from aocr.colors import WHITE, canonical
from aocr.config import DatasetConfig
from aocr.data.scanning import DatasetStatistics, read_sidecar
from aocr.errors import usage_error

log = logging.getLogger(__name__)


def with_background(config: DatasetConfig, sources: list[tuple[str, str]]) -> DatasetConfig:
    """Returns the config with a background: the given one, that of the input datasets, or white.

    `sources`: (path, format) of each input. Raises: UserError, naming both values, if these contradict each other:
    transparent images of a dataset have been laid on its background already.
    """
    known = {config.background: "--background"} if config.background else {}
    for path, kind in sources:
        scan = read_sidecar(path) if kind == "tfrecord" else None
        known = {**(scan.backgrounds if scan else {}), **known}
    _check(known)
    return dataclasses.replace(config, background=next(iter(known), WHITE))


def background_of(scan: DatasetStatistics, given: str | None) -> str:
    """Returns the background of a model that is trained on a dataset: the given one, or the dataset's, or white.

    Raises: UserError, naming both values, if these contradict each other.
    """
    known = {**scan.backgrounds, **({canonical(given): "--background"} if given else {})}
    _check(known)
    return next(iter(known), WHITE)


def warn_of_other_background(scan: DatasetStatistics, background: str) -> None:
    """Logs a warning if a dataset was made with another background than a model's."""
    for color, file in scan.backgrounds.items():
        if color != background:
            log.warning("%s: made with --background %s, but the model reads transparent images on %s; make the dataset "
                        "again with --background %s", file, color, background, background)


def _check(known):
    """Raises UserError unless the backgrounds, {colour: where it is from}, are one."""
    if len(known) > 1:
        (one, place), (other, other_place) = list(known.items())[:2]
        raise usage_error(f"the backgrounds of transparent images differ: {one} ({place}) and {other} ({other_place}); "
                          "make the datasets with the same --background, and leave the flag out here")
