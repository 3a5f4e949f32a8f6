"""Draws words into a directory, with an annotation file for `aocr dataset`."""

import collections
import contextlib
import dataclasses
import logging
import os
import re

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from aocr.config import SynthConfig
from aocr.data.listing import IMAGE_EXTENSIONS
from aocr.errors import UserError
from aocr.files import is_remote, whole_file
from aocr.processes import in_processes
from aocr.synth.drawing import Artist, RenderConfig, artist_of
from aocr.synth.materials import FONT_SUFFIXES, find_files
from aocr.synth.words import words_of

ANNOTATIONS = "annotations.txt"
BATCH = 64  # maximum number of images that a process draws per task
LONGEST_NAME = 40  # maximum number of characters of a word in its image's file name

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Batch:
    """Words that a process draws in one task."""

    rendering: RenderConfig
    seed: int
    first: int  # number of the first word
    words: tuple[str, ...]
    paths: tuple[str, ...]  # of their images


def randoms(seed: int, number: int) -> list[np.random.Generator]:
    """Returns the generators of one image, [word, rendering], which depend on nothing else."""
    return np.random.default_rng([seed, number]).spawn(2)


def make_words(directory: str, config: SynthConfig) -> str:
    """Draws words into a directory. The annotation file appears after the last image.

    Args: directory: path of a new or empty directory.
    Returns: the path of the annotation file.
    Raises: UserError if the directory is not empty or cannot be written, if words, fonts or backgrounds cannot be
      read, or if no font has the characters of a word.
    """
    _check_directory(directory)
    for path in (config.words, *config.fonts, *config.backgrounds):
        if path and is_remote(path):
            raise UserError(f"{path}: synth reads local files only; copy it to this machine")
    words = words_of(config)
    rendering = RenderConfig(tuple(find_files("--fonts", config.fonts, FONT_SUFFIXES)),
                             tuple(find_files("--backgrounds", config.backgrounds, IMAGE_EXTENSIONS)),
                             (config.min_font_size, config.max_font_size), config.color)
    Artist(rendering).check(words.alphabet)
    annotations = os.path.join(directory, ANNOTATIONS)
    passed_over = collections.Counter()
    try:
        os.makedirs(directory, exist_ok=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(logging_redirect_tqdm([logging.getLogger("aocr")]))
            bar = stack.enter_context(tqdm(desc="synth", total=config.count, unit=" images", disable=None))
            part = stack.enter_context(whole_file(annotations))
            file = stack.enter_context(open(part, "w", encoding="utf-8", newline="\n"))
            batches = _batches(directory, words, rendering, config)
            drawn = stack.enter_context(contextlib.closing(in_processes(draw_batch, batches, _workers(config))))
            for batch, counts in drawn:
                file.writelines(f"{path}\t{word}\n" for path, word in zip(batch.paths, batch.words))
                passed_over += counts
                bar.update(len(batch.words))
    except OSError as error:
        raise UserError(f"{directory}: cannot be written: {error.strerror or error}; name another directory or "
                        "free some space") from None
    _report(passed_over)
    log.info("%s: %d words drawn", annotations, config.count)
    return annotations


def _check_directory(directory):
    if is_remote(directory):
        raise UserError(f"{directory}: synth writes to local directories only; name one")
    if re.search(r"[\t\r\n\ud800-\udfff]", directory):
        raise UserError(f"{directory!r}: paths in an annotation file must be UTF-8 without tabs and line breaks; name "
                        "another directory")
    if os.path.lexists(directory) and not os.path.isdir(directory):
        raise UserError(f"{directory}: is a file; name a directory")
    if os.path.isdir(directory):
        try:
            held = os.listdir(directory)
        except OSError as error:
            raise UserError(f"{directory}: cannot be read: {error.strerror or error}; name another one") from None
        if held:
            raise UserError(f"{directory}: not empty; name another directory or remove this one")


def _batches(directory, words, rendering, config):
    """Yields the batches of a run, in order."""
    size = min(BATCH, -(-config.count // _workers(config)))
    digits = max(4, len(str(config.count - 1)))
    for first in range(0, config.count, size):
        numbers = range(first, min(first + size, config.count))
        chosen = tuple(words.draw(randoms(config.seed, number)[0]).strip() for number in numbers)
        paths = tuple(os.path.join(directory, f"{number:0{digits}d}-{_name(word)}.png")
                      for number, word in zip(numbers, chosen))
        yield Batch(rendering, config.seed, first, chosen, paths)


def _name(word):
    """Returns a word as part of a file name that is valid on any file system."""
    return re.sub(r"[^0-9A-Za-z-]", "_", word[:LONGEST_NAME])


def draw_batch(batch: Batch) -> tuple[Batch, collections.Counter[tuple[str, str]]]:
    """Draws the words of a batch into their files.

    Returns: the batch, and the number of words for which a font was skipped, by (font, a character that it lacks).
    Raises: UserError as in Artist.draw; OSError if a file cannot be written.
    """
    artist, passed_over = artist_of(batch.rendering), collections.Counter()
    for number, (word, path) in enumerate(zip(batch.words, batch.paths), batch.first):
        image, fonts = artist.draw(word, randoms(batch.seed, number)[1])
        passed_over.update(fonts)
        image.save(path)
    return batch, passed_over


def _workers(config):
    """Returns the number of drawing processes."""
    if config.workers:
        return min(config.workers, config.count)
    # On a shared machine, this process may be limited to some of the processors.
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, -(-config.count // BATCH))


def _report(passed_over):
    """Logs one warning per font that lacks characters."""
    fonts = {}
    for (path, character), count in sorted(passed_over.items()):
        fonts.setdefault(path, []).append((character, count))
    for path, lacks in fonts.items():
        characters = ", ".join(repr(character) for character, _ in lacks[:10]) + (" ..." if len(lacks) > 10 else "")
        log.warning("%s: skipped for %d words, lacks %s", path, sum(count for _, count in lacks), characters)
