"""Draws words to try the program on: `python -m aocr.data.synth OUT --count N --seed S`."""

import argparse
import itertools
import os

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LENGTHS = range(3, 7)  # characters of a word
FONT_SIZES = range(20, 41)  # pixels
SPACING = 0.05, 0.25  # least and most room between two characters, in font sizes
SIDE_MARGINS, HEAD_MARGINS = (0.1, 0.4), (0.25, 0.5)  # the same at the sides, and above and below
LEAST_CONTRAST = 110  # between ink and ground, of 255
MOST_NOISE = 12.0  # standard deviation, of 255
MOST_BLUR = 0.8  # radius, in pixels


def draw_word(text, random):
    """Draws a word: a size, a place, a shade of ink and ground, blur and noise by chance.

    Args: text: str, not empty. random: numpy.random.Generator.
    Returns: PIL image, mode L; no ink is cut off.
    """
    size = int(random.choice(FONT_SIZES))
    font = ImageFont.load_default(size=size)
    spacing = size * random.uniform(*SPACING)
    starts = list(itertools.accumulate([font.getlength(c) + spacing for c in text], initial=0.0))
    _, above, _, below = font.getbbox(text)
    left, right = (size * margin for margin in random.uniform(*SIDE_MARGINS, 2))
    top, bottom = (size * margin for margin in random.uniform(*HEAD_MARGINS, 2))
    ink, ground = _shades(random)
    image = Image.new("L", (round(left + starts[-1] - spacing + right), round(top + below - above + bottom)), ground)
    draw = ImageDraw.Draw(image)
    for start, character in zip(starts, text):
        draw.text((left + start, top - above), character, fill=ink, font=font)
    image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.0, MOST_BLUR)))
    pixels = np.asarray(image, np.float32)
    noise = random.normal(0.0, random.uniform(0.0, MOST_NOISE), pixels.shape)
    return Image.fromarray(np.clip(pixels + noise + 0.5, 0, 255).astype(np.uint8))


def _shades(random):
    """(ink, ground): dark on light, far enough apart to be read."""
    ink = int(random.integers(0, 256 - LEAST_CONTRAST))
    return ink, int(random.integers(ink + LEAST_CONTRAST, 256))


def random_words(count, random):
    """`count` words of ALPHABET, their lengths out of LENGTHS: list of str."""
    return ["".join(random.choice(list(ALPHABET), int(random.choice(LENGTHS)))) for _ in range(count)]


def write_words(directory, count, seed):
    """Draws `count` words into a directory, with the annotation file that `aocr dataset` reads: its path."""
    random = np.random.default_rng(seed)
    os.makedirs(directory, exist_ok=True)
    annotations = os.path.join(directory, "annotations.txt")
    with open(annotations, "w", encoding="utf-8") as file:
        for number, word in enumerate(random_words(count, random)):
            path = os.path.join(directory, f"{number:04d}-{word}.png")
            draw_word(word, random).save(path)
            file.write(f"{path}\t{word}\n")
    return annotations


def main(argv=None):
    """The command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m aocr.data.synth", description=__doc__)
    parser.add_argument("directory", metavar="OUT", help="directory for the images and annotations.txt")
    parser.add_argument("--count", type=int, default=100, metavar="N", help="words to draw (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="(default: %(default)s)")
    args = parser.parse_args(argv)
    print(f"annotations: {write_words(args.directory, args.count, args.seed)}")


if __name__ == "__main__":
    main()
