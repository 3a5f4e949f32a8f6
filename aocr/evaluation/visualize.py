"""Draws where the model looked while it read."""

import contextlib
import io
import math
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from aocr.aside import aside, swap_in
from aocr.errors import UserError
from aocr.evaluation.fonts import cut, drawable, font_for
from aocr.metrics import normalized

LEAST_SIDE, LEAST_HEIGHT, MOST_SIDE = 320, 48, 1000  # pixels of a drawn picture, chosen for viewing at a glance
DIMMED = 0.4  # brightness where there is no attention
GLOW = np.array([0.34, 0.2, 0.0], np.float32)  # RGB that attention adds to black, so that it shows on dark pictures
FRAME_MILLISECONDS = 600

MOST_STEPS = 12  # maximum rows in a picture of all steps
ROW_WIDTH, ROW_HEIGHT = 800, 64  # maximum size of a row's image, in pixels
LETTER_WIDTH, LETTER_SIZE, GAP = 80, 16, 4  # pixels: width of the character column, font size, gap between rows
LEAST_WIDTH = 400  # pixels, to leave room for the texts

UNSAFE = frozenset('/\\:?*"<>|')  # separators, and characters that Windows forbids
RESERVED = frozenset(["CON", "PRN", "AUX", "NUL"] + [f"{port}{k}" for port in ("COM", "LPT") for k in range(10)])
PICTURE = re.compile(r"attention\.png|image_\d+\.jpg|image\.gif|word\.txt")  # the files of a sample
NAME_BYTES = 240  # file systems allow 255; the suffix of a directory being replaced needs a few


def write_sample(output_dir: str, name: str, encoded: bytes, text: Sequence[str], label: str | None,
                 attention: np.ndarray, drawn_steps: float) -> str:
    """Writes one sample's pictures and texts to `output_dir`/correct or incorrect/`safe_name(name)`, or without a label
    to `output_dir`/`safe_name(name)`.

    An existing directory of this sample, with either verdict, is replaced; the new one appears under its name only when
    it is complete.

    Args:
      output_dir: a local directory; created if missing.
      name: the sample's unique name, such as a path or a record number.
      encoded: an image file that the network can read.
      text: the characters that the steps wrote. label: None if it is unknown.
      attention: float [steps, S], steps >= 1; each row sums to 1 over the image's encoder steps.
      drawn_steps: encoder steps that the image takes, at most S; the last one may be partial, the rest is padding.

    Returns: the directory. It holds attention.png (see `attention_picture`), image_0.jpg ... (one per step), image.gif
      (all of them) and word.txt (UTF-8, lines: text, label).
    Raises: UserError if a directory of this sample holds other files; OSError if a file cannot be written, or Pillow
      cannot read the image (it is stricter than the network, about checksums for example);
      PIL.Image.DecompressionBombError if the image exceeds Pillow's pixel limit.
    """
    picture = on_white(encoded, _drawn_size)
    weights = column_weights(attention, drawn_steps, picture.width)
    frames = [_highlighted(picture, row) for row in weights]
    verdicts = [""] if label is None else ["correct", "incorrect"]
    if label is not None and not _agree("".join(text), label):
        verdicts.reverse()
    directory, *outdated = (os.path.join(output_dir, verdict, safe_name(name)) for verdict in verdicts)
    for place in (directory, *outdated):
        _check_replaceable(place)
    with _whole_directory(directory) as part:
        _rows(picture, text, label, attention, drawn_steps).save(os.path.join(part, "attention.png"))
        for step, frame in enumerate(frames):
            frame.save(os.path.join(part, f"image_{step}.jpg"), quality=90)
        frames[0].save(os.path.join(part, "image.gif"), save_all=True, append_images=frames[1:], loop=0,
                       duration=FRAME_MILLISECONDS)
        with open(os.path.join(part, "word.txt"), "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in ("".join(text), label) if line is not None)
    for place in outdated:
        shutil.rmtree(place, ignore_errors=True)
    return directory


def attention_picture(encoded: bytes, text: Sequence[str], label: str | None, attention: np.ndarray,
                      drawn_steps: float) -> Image.Image:
    """Draws one picture of a sample: its image, below it a row for each step, then the text read and the label.

    A row shows the step's character (`end` after the last one) and where the model looked while writing it. Of a long
    text only the first rows are drawn, and a line says so. Characters that the font lacks are written as escapes.

    Args: as in `write_sample`.
    Returns: RGB, at most 900 x 1000 pixels.
    Raises: OSError or PIL.Image.DecompressionBombError as there.
    """
    return _rows(on_white(encoded, _drawn_size), text, label, attention, drawn_steps)


def _rows(picture, text, label, attention, drawn_steps):
    """Draws `attention_picture` of an image from `on_white`."""
    picture = picture.copy()
    picture.thumbnail((ROW_WIDTH, ROW_HEIGHT))
    shown = min(len(attention), MOST_STEPS)
    frames = [_highlighted(picture, row) for row in column_weights(attention[:shown], drawn_steps, picture.width)]
    font = font_for([*text, label or ""], LETTER_SIZE)
    names = ["' '" if character == " " else drawable(character, font) for character in text[:shown]]
    names += ["end"] * (shown - len(names))
    whole_text = "".join(text)
    color = "black" if label is None else "#007000" if _agree(whole_text, label) else "#a00000"
    lines = [("read: " + drawable(whole_text, font), color)]
    if label is not None:
        lines.append(("label: " + drawable(label, font), "black"))
    if shown < len(attention):
        lines.insert(0, (f"... and {len(attention) - shown} more steps", "black"))
    row_height, line_height = max(picture.height, LETTER_SIZE) + GAP, LETTER_SIZE + 2 * GAP
    width = max(LETTER_WIDTH + picture.width, LEAST_WIDTH) + 2 * GAP
    whole = Image.new("RGB", (width, GAP + (1 + shown) * row_height + len(lines) * line_height), "white")
    draw = ImageDraw.Draw(whole)
    for row, (name, frame) in enumerate(zip(["", *names], [picture, *frames])):
        top = GAP + row * row_height
        draw.text((GAP + LETTER_WIDTH / 2, top + frame.height / 2), name, fill="black", font=font, anchor="mm")
        whole.paste(frame, (GAP + LETTER_WIDTH, top))
    for number, (line, color) in enumerate(lines):
        top = GAP + (1 + shown) * row_height + number * line_height
        draw.text((GAP, top), cut(line, font, width - 2 * GAP), fill=color, font=font)
    return whole


def _agree(text, label):
    return normalized(text) == normalized(label)


def safe_name(name: str) -> str:
    """Converts a sample's name to a directory name that is valid on any file system.

    Returns: 1 to 240 bytes in UTF-8, without separators, control characters and characters that Windows forbids (each
      becomes `_`), and without dots and blanks at its ends. A long name is truncated.
    """
    safe = "".join("_" if c in UNSAFE or unicodedata.category(c) in ("Cc", "Cs") else c for c in name)
    safe = safe.lstrip(". ").encode()[:NAME_BYTES - 1].decode(errors="ignore").rstrip(". ")
    if not safe or safe.split(".")[0].rstrip().upper() in RESERVED:
        return "_" + safe
    return safe


def on_white(encoded: bytes, size: Callable[[int, int], tuple[int, int]]) -> Image.Image:
    """Decodes an image file to an RGB picture on white. EXIF orientation is ignored.

    Args: size: returns the picture's width and height, from those of the image.
    Raises: OSError or PIL.Image.DecompressionBombError as `write_sample`.
    """
    image: Image.Image = Image.open(io.BytesIO(encoded))
    if image.format == "PNG" and image.mode != "P":
        image.info.pop("transparency", None)  # the network supports transparent colours in palettes only
    if image.mode.startswith("I"):  # 16 bits: Pillow would clip them to 8
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("RGBA").resize(size(*image.size), Image.Resampling.BICUBIC)
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _drawn_size(width, height):
    """Returns the size at which to draw an image, in its aspect ratio."""
    longer = max(width, height)
    scale = min(max(1.0, LEAST_SIDE / longer, LEAST_HEIGHT / height), MOST_SIDE / longer)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def column_weights(attention: np.ndarray, drawn_steps: float, width: int) -> np.ndarray:
    """Resamples attention to pixel columns: [steps, S] -> float32 [steps, width] in [0, 1], each step's maximum 1."""
    rows = Image.fromarray(np.ascontiguousarray(attention[:, :math.ceil(drawn_steps)], np.float32))
    box = (0, 0, drawn_steps, rows.height)
    weights = np.asarray(rows.resize((width, rows.height), Image.Resampling.BILINEAR, box))
    return weights / np.maximum(weights.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _highlighted(picture, weights):
    """Dims the picture where the weights ([width], 0 to 1) are low, and makes it glow where they are high."""
    weights = weights[np.newaxis, :, np.newaxis]
    pixels = np.asarray(picture, np.float32) / 255.0 * (DIMMED + (1.0 - DIMMED) * weights)
    pixels += (1.0 - pixels) * GLOW * weights
    return Image.fromarray((pixels * 255.0 + 0.5).astype(np.uint8))


@contextlib.contextmanager
def _whole_directory(path):
    """Yields a new directory beside `path`; it becomes `path` if the block succeeds, and is removed otherwise."""
    parent, name = os.path.split(path)
    os.makedirs(parent, exist_ok=True)
    with aside(parent) as place:
        part = os.path.join(place, name)
        os.mkdir(part)
        yield part
        swap_in(part, path)


def _check_replaceable(directory):
    """Raises UserError if anything but the pictures of a sample would be lost with a directory."""
    if not os.path.lexists(directory):
        return
    if os.path.islink(directory) or not os.path.isdir(directory):
        raise UserError(f"{directory}: is no directory of pictures; remove it or name another --output-dir")
    others = sorted(name for name in os.listdir(directory) if not PICTURE.fullmatch(name))
    if others:
        raise UserError(f"{directory}: other files than pictures are there ({', '.join(others[:5])}); remove them or "
                        "name another --output-dir")
