"""Contact sheets of augmented dataset samples."""

from collections.abc import Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from aocr.augment.ops import augment, variant_seed
from aocr.augment.recipes import Recipe, automatic, find_recipe
from aocr.config import AUTO_AUGMENTATION, IMAGE_HEIGHT, AugmentConfig
from aocr.data import fit, records, scanning
from aocr.data.background import background_of
from aocr.errors import UserError
from aocr.evaluation.sheets import SHEET, VARIANTS_GROUND
from aocr.files import cause, write_bytes
from aocr.graph.preprocess import prepare_image
from aocr.outputs import Output, check_outputs

SCALE = 2  # magnification of the images
GAP = 4  # pixels between images


def make_sheet(dataset: str, output: str, config: AugmentConfig) -> int:
    """Writes samples of a dataset, each followed by its variants in a row, to a PNG file, atomically.

    Args: dataset, output: paths.
    Returns: the number of samples. Raises: UserError if the augmentation or dataset is missing or invalid, or the
      sheet cannot be written.
    """
    check_outputs([Output(output, SHEET)], [*records.read_with(dataset), config.augment])
    scan = scanning.scan(dataset, max_pixels=config.max_pixels)
    automatically = config.augment == AUTO_AUGMENTATION
    recipe = find_recipe(automatic(scan.usable) if automatically else config.augment) or Recipe()
    with records.reading(dataset):
        rows = [image.numpy() for image in _rows(scan, recipe, config)]
    encoded = tf.io.encode_png(draw_sheet(rows)).numpy()
    try:
        write_bytes(output, encoded)
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {cause(error)}") from None
    return len(rows)


def _rows(scan, recipe, config):
    """Returns the sampled rows: tf.data.Dataset of float32 [1 + variants, H, w, C], the original first."""
    model, _ = fit.fit_config(scan, dict(color=config.color, max_pixels=config.max_pixels,
                                          background=background_of(scan, None)))
    chosen = scan.choose(config.count, config.seed)

    def row(number, serialized):
        encoded = records.parse_example(serialized)["image"]
        pixels = prepare_image(encoded, canvas_width=model.canvas_width, channels=model.channels,
                               background=model.background, max_pixels=model.max_pixels).pixels
        # As in training, where epoch numbers start at the seed.
        passes = config.seed + tf.range(config.variants, dtype=tf.int64)
        variants = tf.map_fn(lambda epoch: augment(pixels, recipe, variant_seed(config.seed, epoch, number)), passes,
                             fn_output_signature=tf.float32)  # [variants, H, w, C]
        return tf.concat([pixels[tf.newaxis], variants], 0)

    plain = tf.autograph.experimental.do_not_convert
    wanted = plain(lambda number, _: tf.reduce_any(tf.equal(number, chosen)))
    return records.numbered_records(scan).filter(wanted).take(len(chosen)).map(plain(row))


def draw_sheet(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Draws rows of images, float32 [count, H, w, C] with varying w, as one image: uint8 [height, width, C]."""
    count, _, _, channels = rows[0].shape
    height, width = (GAP + SCALE * size for size in (IMAGE_HEIGHT, max(row.shape[2] for row in rows)))
    sheet = np.full((GAP + len(rows) * height, GAP + count * width, channels), VARIANTS_GROUND, np.uint8)
    for r, row in enumerate(rows):
        levels = np.clip(row * 128.0 + 128.5, 0, 255).astype(np.uint8)
        levels = levels.repeat(SCALE, axis=1).repeat(SCALE, axis=2)
        for c, image in enumerate(levels):
            top, left = GAP + r * height, GAP + c * width
            sheet[top:top + image.shape[0], left:left + image.shape[1]] = image
    return sheet
