"""Preparation of image files for the network."""

import io

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from aocr.graph.preprocess import PreparedImages, at_least_one, prepare_batch, prepare_image, scaled_width

CANVAS = 86


def encode(image, format="PNG", **options):
    """Encodes a PIL image or an array as the bytes of a file."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def plain(mode, color, width=13, height=9):
    return Image.new(mode, (width, height), color)


def noise(width, height, channels, seed=0):
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def level(value):
    """Converts a pixel of 0..255 to the network's value."""
    return (value - 128) / 128


def grey(red, green, blue):
    return 0.299 * red + 0.587 * green + 0.114 * blue


class Preparer:
    """`prepare_image` in one graph per number of channels and canvas, built on first use."""

    def __init__(self, bench):
        self._bench, self._made = bench, {}

    def __call__(self, encoded, channels=1, canvas=CANVAS):
        key = channels, canvas
        if key not in self._made:
            self._made[key] = self._bench(
                lambda encoded: prepare_image(encoded, canvas_width=canvas, channels=channels), dict(encoded=b""))
        return self._made[key].run(encoded=encoded)


@pytest.fixture
def prepare(bench):
    return Preparer(bench)


# ---- geometry

@pytest.mark.parametrize("width, height, expected, squeezed", [
    (10, 40, 8, False),  # upright
    (100, 40, 80, False),  # wide
    (7, 90, 2, False),  # tall: 2.49
    (3, 64, 2, False),  # 1.5 is rounded up
    (1, 1, 32, False),  # tiny
    (1, 50, 1, False),  # one pixel wide: 0.64
    (1, 100, 1, False),  # 0.32, but at least 1
    (2, 1, 64, False),  # one pixel high
    (3, 1, CANVAS, True),  # 96
    (5, 4, 40, False),  # small, scaled up
    (CANVAS, 32, CANVAS, False),  # exactly the canvas
    (CANVAS + 1, 32, CANVAS, True),
    (2 * CANVAS + 1, 64, CANVAS, True),  # 86.5 is rounded up
    (500, 17, CANVAS, True),
])
def test_geometry(prepare, width, height, expected, squeezed):
    prepared = prepare(encode(noise(width, height, 1)))
    assert prepared.pixels.shape == (32, expected, 1)
    assert prepared.pixels.dtype == np.float32
    assert prepared.width == expected and prepared.width.dtype == np.int32
    assert prepared.squeezed == squeezed


def test_the_canvas_only_squeezes(prepare):
    narrow = prepare(encode(noise(11, 32, 1)), canvas=7)
    assert narrow.pixels.shape == (32, 7, 1) and narrow.squeezed
    wide = prepare(encode(noise(11, 32, 1)), canvas=400)
    assert wide.pixels.shape == (32, 11, 1) and not wide.squeezed


def test_squeezing_keeps_both_ends(prepare):
    half_and_half = np.zeros([32, 300], np.uint8)
    half_and_half[:, 150:] = 255
    row = prepare(encode(half_and_half)).pixels[16, :, 0]
    np.testing.assert_allclose(row[:41], level(0), atol=1e-5)
    np.testing.assert_allclose(row[-41:], level(255), atol=1e-5)


def test_scaled_width_by_hand():
    sizes = {(7, 90): 2, (3, 64): 2, (1, 64): 1, (1, 65): 0, (160, 60): 85, (31, 32): 31, (1, 1): 32}
    assert {size: scaled_width(*size) for size in sizes} == sizes


def test_scaled_width_is_the_same_on_integers_and_tensors(run_graph):
    widths, heights = (part.astype(np.int32).ravel() for part in np.meshgrid(
        [*range(1, 40), 63, 64, 65, 99, 1000, 4097, 100003], [*range(1, 70), 127, 128, 129, 999, 65535]))
    expected = [scaled_width(int(width), int(height)) for width, height in zip(widths, heights)]
    np.testing.assert_array_equal(run_graph(scaled_width, width=widths, height=heights), expected)
    exact = widths.astype(object) * 32 / heights
    assert np.abs(np.array(expected) - exact).max() <= 0.5


# ---- values

@pytest.mark.parametrize("value", [0, 1, 127, 128, 200, 255])
@pytest.mark.parametrize("width, height", [(13, 9), (300, 41)])
def test_a_constant_image_gives_a_constant(prepare, value, width, height):
    pixels = prepare(encode(plain("L", value, width, height))).pixels
    np.testing.assert_allclose(pixels, level(value), atol=1e-5)


def test_an_image_at_the_networks_height_is_not_touched(prepare):
    image = noise(37, 32, 1)
    np.testing.assert_allclose(prepare(encode(image)).pixels[:, :, 0], level(image.astype(float)), atol=1e-5)


@pytest.mark.parametrize("width, height", [(61, 47), (9, 7), (333, 32), (5, 200)])
def test_resampling_is_the_antialiased_bicubic_of_another_library(prepare, width, height):
    """Pillow's, in floating point: a difference of a whole level would be 1/128."""
    image = noise(width, height, 1)
    prepared = prepare(encode(image))
    other = np.asarray(Image.fromarray(image.astype(np.float32)).resize((prepared.width, 32), Image.BICUBIC))
    np.testing.assert_allclose(prepared.pixels[:, :, 0], level(np.clip(other, 0, 255)), atol=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_values_stay_in_range_where_the_interpolation_overshoots(prepare, channels):
    stripes = np.tile(np.repeat(np.array([0, 255], np.uint8), 5), [11, 3])
    pixels = prepare(encode(stripes), channels).pixels
    assert pixels.min() == level(0) == -1
    assert pixels.max() == level(255) < 1


# ---- colours

def test_colour_in_three_channels(prepare):
    pixels = prepare(encode(plain("RGB", (200, 100, 50))), 3).pixels
    assert pixels.shape == (32, 46, 3)
    np.testing.assert_allclose(pixels, np.broadcast_to(level(np.array([200.0, 100.0, 50.0])), pixels.shape), atol=1e-5)


@pytest.mark.parametrize("color, value", [
    ((255, 0, 0), 76.245), ((0, 255, 0), 149.685), ((0, 0, 255), 29.07),
    ((200, 100, 50), 124.2),  # 59.8 + 58.7 + 5.7
])
def test_colour_in_grey(prepare, color, value):
    np.testing.assert_allclose(prepare(encode(plain("RGB", color))).pixels, level(value), atol=1e-5)


def test_grey_in_three_equal_channels(prepare):
    pixels = prepare(encode(noise(23, 32, 1)), 3).pixels
    np.testing.assert_array_equal(pixels[:, :, 0], pixels[:, :, 1])
    np.testing.assert_array_equal(pixels[:, :, 0], pixels[:, :, 2])
    np.testing.assert_allclose(pixels[:, :, :1], prepare(encode(noise(23, 32, 1))).pixels, atol=1e-5)


HALF_RED = (grey(255, 127, 127), (255.0, 127.0, 127.0))  # 255 - 255 * 128 / 255 = 127


@pytest.mark.parametrize("mode, color, in_grey, in_color", [
    ("RGBA", (10, 20, 30, 0), 255.0, (255.0, 255.0, 255.0)),  # transparent pixels are white, whatever their colour
    ("RGBA", (10, 20, 30, 255), grey(10, 20, 30), (10.0, 20.0, 30.0)),
    ("RGBA", (255, 0, 0, 128), *HALF_RED),
    ("LA", (77, 0), 255.0, (255.0, 255.0, 255.0)),
    ("LA", (0, 51), 204.0, (204.0, 204.0, 204.0)),  # a fifth of black
])
def test_transparency_is_laid_on_white(prepare, mode, color, in_grey, in_color):
    encoded = encode(plain(mode, color))
    np.testing.assert_allclose(prepare(encoded).pixels, level(in_grey), atol=1e-5)
    pixels = prepare(encoded, 3).pixels
    np.testing.assert_allclose(pixels, np.broadcast_to(level(np.array(in_color)), pixels.shape), atol=1e-5)


def test_transparency_is_a_pixels_own(prepare):
    image = np.zeros([32, 5, 4], np.uint8)
    image[:, 3:, 3] = 255
    row = prepare(encode(image)).pixels[0, :, 0]
    np.testing.assert_allclose(row, level(np.array([255.0, 255.0, 255.0, 0.0, 0.0])), atol=1e-5)


# ---- formats

def palette_image():
    image = Image.new("P", (13, 9), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    return image


def transparent_palette():
    image = palette_image()
    image.info["transparency"] = 1
    return image


@pytest.mark.parametrize("image, format, options, expected", [
    (palette_image(), "PNG", {}, 124.2),
    (transparent_palette(), "PNG", {}, 255.0),
    (plain("1", 1), "PNG", {}, 255.0),
    (plain("1", 0), "PNG", {}, 0.0),
    (Image.fromarray(np.full([9, 13], 0x8080, np.uint16)), "PNG", {}, 128.0),  # 16 bits: the upper 8
    (plain("L", 77), "JPEG", dict(quality=100), 77.0),
    (plain("RGB", (90, 90, 90)), "JPEG", dict(quality=100), 90.0),
    (plain("L", 200), "GIF", {}, 200.0),
    (plain("L", 77), "BMP", {}, 77.0),
    (plain("RGB", (200, 100, 50)), "BMP", {}, 124.2),
    (plain("RGB", (200, 100, 50)), "WEBP", dict(lossless=True), 124.2),
    (plain("RGBA", (0, 0, 0, 51)), "WEBP", dict(lossless=True), 204.0),
], ids=["palette", "palette-transparent", "1-bit-white", "1-bit-black", "16-bit", "jpeg-grey", "jpeg-colour", "gif",
        "bmp-grey", "bmp-colour", "webp", "webp-transparent"])
@pytest.mark.parametrize("channels", [1, 3])
def test_formats(prepare, image, format, options, expected, channels):
    pixels = prepare(encode(image, format, **options), channels).pixels
    assert pixels.shape == (32, 46, channels)
    np.testing.assert_allclose((pixels * 128 + 128) @ ([1.0] if channels == 1 else [0.299, 0.587, 0.114]), expected,
                               atol=1e-3)


def test_the_first_frame_of_an_animated_gif(prepare):
    frames = [plain("L", value) for value in (64, 128, 250)]
    encoded = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=40)
    with Image.open(io.BytesIO(encoded)) as animation:
        assert animation.n_frames == 3
    np.testing.assert_allclose(prepare(encoded).pixels, level(64), atol=1e-5)


@pytest.mark.parametrize("encoded", [
    b"", b"no image", b"\x89PNG\r\n\x1a\n", encode(noise(31, 17, 3))[:-90], encode(noise(31, 17, 3), "JPEG")[:200],
    encode(plain("L", 9), "TIFF"),
    *(encode(plain(mode, color), "WEBP", lossless=True, save_all=True, append_images=[plain(mode, other)])
      for mode, color, other in [("RGB", (200, 100, 50), (0, 0, 50)), ("RGBA", (9, 9, 9, 9), (8, 8, 8, 255))]),
], ids=["empty", "text", "png-header", "png-cut", "jpeg-cut", "tiff", "animated-webp", "animated-webp-alpha"])
def test_what_is_no_image_raises(prepare, encoded):
    with pytest.raises(tf.errors.InvalidArgumentError):
        prepare(encoded)


# ---- batches

def batch_of(channels):
    def build(encoded):
        return prepare_batch(
            encoded, lambda one: prepare_image(one, canvas_width=CANVAS, channels=channels), canvas_width=CANVAS,
            channels=channels)
    return build


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_padded_with_0_to_the_widest(run_graph, prepare, channels):
    encoded = [encode(noise(width, 32, channels, seed=width)) for width in (5, 41, 17)]
    batch = run_graph(batch_of(channels), encoded=encoded)
    assert batch.pixels.shape == (3, 32, 41, channels)
    assert batch.widths.tolist() == [5, 41, 17]
    for one, pixels, width in zip(encoded, batch.pixels, batch.widths):
        np.testing.assert_array_equal(pixels[:, :width], prepare(one, channels).pixels)
        assert not pixels[:, width:].any()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_may_be_empty(bench, channels):
    batch = bench(batch_of(channels), dict(encoded=[b""])).run(encoded=[])
    assert batch.pixels.shape == (0, 32, 1, channels)
    assert batch.widths.shape == (0,)


def test_a_batch_with_an_image_wider_than_the_canvas(run_graph):
    batch = run_graph(batch_of(1), encoded=[encode(noise(300, 32, 1)), encode(noise(1, 90, 1))])
    assert batch.pixels.shape == (2, 32, CANVAS, 1)
    assert batch.widths.tolist() == [CANVAS, 1]  # 0.36 pixels become one


@pytest.mark.parametrize("count", [0, 1, 3])
def test_at_least_one_adds_a_blank_image_to_an_empty_batch_only(run_graph, count):
    feed = dict(pixels=noise(5, 32, 2 * count).reshape(count, 32, 5, 2).astype(np.float32),
                widths=np.array([4, 5, 2], np.int32)[:count])
    got = run_graph(lambda pixels, widths: at_least_one(PreparedImages(pixels, widths)), **feed)
    if count:
        np.testing.assert_array_equal(got.pixels, feed["pixels"])
        assert got.widths.tolist() == feed["widths"].tolist()
    else:
        assert got.pixels.shape == (1, 32, 5, 2) and not got.pixels.any()
        assert got.widths.tolist() == [1]
