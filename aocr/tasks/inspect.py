"""Statistics of a dataset, as values and as text for people."""

import collections
import hashlib
import io
import logging
import math

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image
from tqdm import tqdm

from aocr.charset import ALPHANUMERIC, FULL_ASCII, code_points, is_invisible, visible
from aocr.config import InspectConfig
from aocr.data import fit, scanning
from aocr.data.duplicates import Duplicates
from aocr.data.records import numbered_records, parse_example, read_with, reading
from aocr.errors import UserError
from aocr.evaluation.contact_sheet import draw_contact_sheet
from aocr.evaluation.sheets import SHEET
from aocr.files import cause, whole_file
from aocr.outputs import Output, check_outputs

log = logging.getLogger(__name__)

RARE = 10  # characters in fewer labels are rare
WIDTH_STEP = 32  # pixels, bin size of the histogram of widths
BAR = 40  # characters, length of a histogram's longest bar


def inspect(dataset: str, config: InspectConfig) -> dict:
    """Returns statistics of a dataset, as plain values; draws the sheet if config names one.

    Raises: UserError if the dataset cannot be read or the sheet cannot be written.
    """
    if config.sheet:
        check_outputs([Output(config.sheet, SHEET, "--sheet")], read_with(dataset))
    scan = scanning.scan(dataset, config.graphemes, config.max_pixels)
    images, samples = _look_at_images(scan, config)
    if config.sheet:
        try:
            with whole_file(config.sheet) as part, tf.io.gfile.GFile(part, "wb") as file:
                draw_contact_sheet(samples).save(file, "PNG")
        except (OSError, tf.errors.OpError) as error:
            raise UserError(f"{config.sheet}: cannot be written: {cause(error)}") from None
        log.info("%s: %d samples", config.sheet, len(samples))
    return _facts(scan, images)


def _look_at_images(scan, config):
    """Scans the records for file kinds, heights, duplicates, and samples for a sheet, (number, label, file)."""
    kinds, heights, samples = collections.Counter(), collections.Counter(), []
    chosen = set(scan.choose(config.count, config.seed)) if config.sheet else ()
    records = numbered_records(scan).map(lambda number, serialized: (number, parse_example(serialized)))
    with reading(scan.path), Duplicates() as duplicates:
        for number, record in tqdm(records, desc="inspect", total=scan.records, unit=" records", disable=None):
            number, encoded, label = int(number), record["image"].numpy(), record["label"].numpy()
            if number in scan.unreadable:
                continue
            kind, height = _kind(encoded)
            kinds[kind] += 1
            heights[height] += 1
            duplicates.add(hashlib.sha256(encoded).digest(), hashlib.sha256(label).digest(), 0, number)
            if number in chosen:
                samples.append((number, label.decode(), encoded))
        copies, conflicts = duplicates.copies(), [(a, b) for (_, a), (_, b) in duplicates.conflicts()]
    for number, first in conflicts:
        log.warning("%s: records %d and %d have the same image but different labels", scan.path, first, number)
    return dict(kinds=kinds, heights=heights, copies=copies, conflicts=len(conflicts)), samples


def _kind(encoded):
    """Returns ("PNG RGB", height in pixels) of an image file."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return f"{image.format} {image.mode}", image.height
    except Exception:  # Pillow raises errors of any kind; TensorFlow has decoded it
        return "unknown to Pillow", 0


def _facts(scan, images):
    config, _ = fit.fit_config(scan, {})
    characters = {character: seen.count for character, seen in scan.characters.items()}
    widths = collections.Counter()
    for width, count in scan.widths.items():
        widths[(width - 1) // WIDTH_STEP * WIDTH_STEP + 1] += count
    outside = set(characters) - set(ALPHANUMERIC)
    flags = ["--max-width", str(config.max_width), "--max-height", str(config.max_height),
             "--max-prediction", str(config.max_prediction)]
    if outside and outside <= set(FULL_ASCII):
        flags.append("--full-ascii")
    if scan.graphemes:
        flags.append("--graphemes")
    return dict(
        dataset=scan.path, files=len(scan.files), records=scan.records, used=scan.usable,
        unreadable={str(number): reason for number, reason in sorted(scan.unreadable.items())},
        label_lengths=_sorted(scan.lengths, lambda seen: seen.count), empty_labels=scan.lengths[0].count
        if 0 in scan.lengths else 0,
        characters=dict(sorted(characters.items(), key=lambda item: (-item[1], item[0]))),
        rare_characters={character: dict(labels=seen.count, record=seen.record, label=seen.label)
                         for character, seen in sorted(scan.characters.items()) if seen.count < RARE},
        widths_at_height_32=_sorted(widths), widest=scan.widest_image, heights=_summary(images["heights"]),
        images=dict(images["kinds"].most_common()), copies=images["copies"],
        copies_with_other_labels=images["conflicts"], flags=" ".join(flags))


def _sorted(table, value=int):
    return {str(key): value(table[key]) for key in sorted(table)}


def _summary(counter):
    """Returns the least, median and greatest key."""
    keys = sorted(counter)
    ends = np.cumsum([counter[key] for key in keys])  # end of each key's ranks among all counted values, sorted
    return dict(least=keys[0], median=keys[np.searchsorted(ends, ends[-1] // 2, side="right")], greatest=keys[-1])


def as_text(facts: dict) -> str:
    """Formats the statistics of `inspect` as lines for people."""
    heights = facts["heights"]
    lines = [f"dataset: {facts['dataset']}", f"files: {facts['files']}", f"records: {facts['records']}",
             f"used: {facts['used']}", f"unreadable: {len(facts['unreadable'])}",
             f"images: {', '.join(f'{count} {kind}' for kind, count in facts['images'].items())}",
             f"heights: {heights['least']} to {heights['greatest']} pixels, median {heights['median']}",
             f"duplicate images: {facts['copies']}, {facts['copies_with_other_labels']} with different labels",
             f"empty labels: {facts['empty_labels']}", "", "label length: labels",
             *_bars(facts["label_lengths"], lambda length: length), "", "width at height 32: images",
             *_bars(facts["widths_at_height_32"], lambda width: f"{width} to {int(width) + WIDTH_STEP - 1}"),
             "", f"characters, with the number of labels that contain them ({len(facts['characters'])}):",
             "  " + "  ".join(f"{_visible(character)} {count}" for character, count in facts["characters"].items())]
    if facts["rare_characters"]:
        lines += ["", f"rare characters, in fewer than {RARE} labels:"]
        lines += [f"  {_visible(character)} ({code_points(character)}): {seen['labels']}, first in {seen['label']!r} "
                  f"(record {seen['record']})" for character, seen in facts["rare_characters"].items()]
    lines += ["", "flags that fit all samples, set by `aocr train` automatically:", f"  {facts['flags']}"]
    return "\n".join(lines)


def _visible(character):
    if any(map(is_invisible, character)):
        return visible(character)
    return character if character.isprintable() and not character.isspace() else repr(character)


def _bars(histogram, name):
    """Formats a histogram: one line per key, with a bar."""
    names = {key: name(key) for key in histogram}
    room, most = max(map(len, names.values())), max(histogram.values())
    return [f"  {names[key]:>{room}}  {count:>8}  {'#' * math.ceil(BAR * count / most)}"
            for key, count in histogram.items()]
