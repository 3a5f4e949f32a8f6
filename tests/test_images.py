"""One picture in many files: dataset, `predict` and the exported graph see the same, or say why not."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image
from test_checks import chunk

from aocr import image_files
from aocr.charset import charset_for
from aocr.checkpoint import Description, with_flags
from aocr.cli import main
from aocr.config import DatasetConfig, ModelConfig, TrainConfig
from aocr.data.background import background_of
from aocr.data.checks import Checked, check
from aocr.data.records import to_example
from aocr.data.rows import Row
from aocr.data.scanning import scan
from aocr.errors import UserError
from aocr.image_files import FRAMES, BadImage, read_image_file, standard_image
from aocr.images import problem_of
from aocr.inputs import EncodedImages
from aocr.network import Network
from aocr.reading.images import prepare as prepare_source
from aocr.reading.images import source_of
from aocr.training import prepare

WIDTH, HEIGHT = 23, 18
CONFIG = DatasetConfig(workers=1)
WHERE_INK_IS = np.kron(np.random.RandomState(5).rand(6, 7) < 0.4, np.ones([3, 3], bool))  # not symmetric
INK = np.pad(WHERE_INK_IS, [(0, 0), (0, 2)])
PICTURE = Image.fromarray(np.where(INK, 0, 255).astype(np.uint8))  # black on white


def saved(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def turned(image, orientation):
    """Returns the image as a camera stores it with an EXIF orientation, by which it is shown upright."""
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    return image.transpose(Image.Transpose(back))


def exif(orientation, order="<", kind=3):
    """Returns EXIF data with three entries, of which one is the orientation (as SHORT or LONG)."""
    value = struct.pack(order + ("HH" if kind == 3 else "I"), *([orientation, 0] if kind == 3 else [orientation]))
    return (b"Exif\0\0" + (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 3)
            + struct.pack(order + "HHII", 0x0001, 4, 1, 7) + struct.pack(order + "HHI", 0x0112, kind, 1) + value
            + struct.pack(order + "HHII", 0x9999, 4, 1, 6) + struct.pack(order + "I", 0))


def with_palette(colors, indices):
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette([part for color in colors for part in color])
    return image


def deep(top, dtype=np.uint16):
    return Image.fromarray(np.where(INK, 0, top).astype(dtype))


BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)
INVERTED = with_palette([WHITE, BLACK], INK)  # 1 is ink
RED_GROUND = with_palette([RED, BLACK], INK)
RGBA = Image.fromarray(np.dstack([np.zeros([HEIGHT, WIDTH, 3]), 255 * INK]).astype(np.uint8), "RGBA")
LOSSLESS = {
    "png": saved(PICTURE, "PNG"), "png rgb": saved(PICTURE.convert("RGB"), "PNG"),
    "png 1 bit": saved(PICTURE.convert("1"), "PNG"), "png palette": saved(INVERTED, "PNG"),
    "png rgba": saved(RGBA, "PNG"), "png grey and alpha": saved(RGBA.convert("LA"), "PNG"),
    "png transparent colour": saved(RED_GROUND.convert("RGB"), "PNG", transparency=RED),
    "png transparent grey": saved(PICTURE.point(lambda value: value and 77), "PNG", transparency=77),
    "png transparent index": saved(RED_GROUND, "PNG", transparency=0),
    "png 16 bits": saved(deep(65535), "PNG"), "png 12 bits in 16": saved(deep(4095), "PNG"),
    "png 10 bits in 16": saved(deep(1023), "PNG"), "png 8 bits in 16": saved(deep(255), "PNG"),
    "gif": saved(INVERTED, "GIF"), "gif transparent": saved(RED_GROUND, "GIF", transparency=0),
    "gif animated": saved(INVERTED, "GIF", save_all=True, append_images=[RED_GROUND] * 2),
    "bmp": saved(PICTURE.convert("RGB"), "BMP"), "bmp grey": saved(PICTURE, "BMP"),
    "bmp palette": saved(INVERTED, "BMP"), "bmp 1 bit": saved(PICTURE.convert("1"), "BMP"),
    "bmp 32 bits": saved(PICTURE.convert("RGBA"), "BMP"),
    "webp": saved(PICTURE.convert("RGB"), "WEBP", lossless=True),
    "webp rgba": saved(RGBA, "WEBP", lossless=True), "tiff": saved(PICTURE, "TIFF"),
    "tiff fax": saved(PICTURE.convert("1"), "TIFF", compression="group4"), "tiff 16 bits": saved(deep(65535), "TIFF"),
    "tiff 8 bits in 16": saved(deep(255), "TIFF"), "tiff 8 bits in 32": saved(deep(255, np.int32), "TIFF"),
    "tiff 31 bits": saved(deep(2**31 - 1, np.int32), "TIFF"), "tiff 0 to 1": saved(deep(1, np.float32), "TIFF"),
    "tiff 0 to 255": saved(deep(255, np.float32), "TIFF"),
    "tiff turned": saved(turned(PICTURE, 6), "TIFF", tiffinfo={0x0112: 6}),
}
LOSSLESS.update({f"png turned {k}": saved(turned(PICTURE, k), "PNG", exif=exif(k)) for k in range(2, 9)})
LOSSLESS.update({f"webp turned {k}": saved(turned(PICTURE.convert("RGB"), k), "WEBP", lossless=True, exif=exif(k, ">"))
                 for k in (3, 8)})
JPEGS = {"jpeg": saved(PICTURE, "JPEG", quality=90), "jpeg cmyk": saved(PICTURE.convert("CMYK"), "JPEG", quality=90)}
JPEGS.update({f"jpeg turned {k} {order}": saved(turned(PICTURE, k), "JPEG", quality=90, exif=exif(k, order, kind))
              for k in range(2, 9) for order in "<>" for kind in (3, 4)})
LOSSY = {**JPEGS, "webp lossy": saved(PICTURE.convert("RGB"), "WEBP", quality=90)}
FILES = {**LOSSLESS, **LOSSY}
REFUSED = {  # by the exported graph
    "bmp 1 bit": "a BMP file other than 24 bits", "bmp 32 bits": "a BMP file other than 24 bits",
    **{name: "not a supported image" for name in FILES if name.startswith("tiff")}}


class Graphs:
    """The images of an exported graph by model options: `graphs(file, **options)` returns [H, w, C] or a problem."""

    def __init__(self):
        self._sessions = {}

    def __call__(self, file, **options):
        key = tuple(sorted(options.items()))
        if key not in self._sessions:
            with tf.Graph().as_default():
                inputs = EncodedImages(Network(ModelConfig(**options), charset_for(())))
                self._sessions[key] = inputs, tf.Session()
        inputs, session = self._sessions[key]
        try:
            return session.run(inputs.images.pixels, {inputs.encoded: file})[0]
        except tf.errors.InvalidArgumentError as error:
            return problem_of(error)


@pytest.fixture(scope="module")
def graphs():
    return Graphs()


def assert_alike(name, got, expected):
    """Asserts that prepared images are equal up to rounding, or to the errors of lossy formats, in levels of 255."""
    assert got.shape == expected.shape
    error = np.abs(got - expected) * 128
    most, mean = (1.01, 0.5) if name in LOSSLESS else (48, 8)  # turned wrongly, more than 255 and 60
    assert error.max() <= most and error.mean() <= mean, (error.max(), error.mean())


@pytest.mark.parametrize("name, color", [(name, name not in JPEGS) for name in FILES])
def test_dataset_and_predict_and_export_see_the_same_picture(name, color, graphs, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(FILES[name])
    checked = check(Row("list", 1, b"", "X", str(path)), CONFIG)
    assert isinstance(checked, Checked), checked
    trained_on = graphs(checked.image, color=color)
    config = ModelConfig(color=color)
    for given in (str(path), path, path.read_bytes()):
        prepared = prepare_source(source_of(given, "", config), config)
        np.testing.assert_array_equal(graphs(prepared.image.content, color=color), trained_on)
    expected = graphs(LOSSLESS["png"], color=color)
    assert_alike(name, trained_on, expected)
    served = graphs(FILES[name], color=color)
    if name in REFUSED:
        assert REFUSED[name] in served
    else:
        assert_alike(name, served, expected)


@pytest.mark.parametrize("name", [*LOSSLESS, "jpeg", "jpeg cmyk", "jpeg turned 6 <", "jpeg turned 5 >",
                                  "webp lossy"])
def test_a_pil_image_is_seen_as_its_file(name, graphs):
    with Image.open(io.BytesIO(FILES[name])) as image:
        prepared = prepare_source(source_of(image, "image", CONFIG), CONFIG)
    got, expected = graphs(prepared.image.content, color=True), graphs(standard_image(FILES[name], CONFIG).content,
                                                                       color=True)
    if name in LOSSLESS and name != "gif transparent":  # whose colours are mixed before or after the scaling
        np.testing.assert_array_equal(got, expected)
    else:
        assert_alike(name, got, expected)


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("name", ["png rgba", "png grey and alpha", "png transparent colour", "png transparent grey",
                                  "png transparent index", "gif transparent", "webp rgba"])
def test_a_background_is_seen_alike(name, color, graphs):
    """Of all these files only the ink is left: the rest is transparent."""
    stored = standard_image(FILES[name], DatasetConfig(background="#4060a0"))
    opaque = graphs(stored.content, color=color)  # on white: nothing transparent is left
    on = dict(color=color, background="#4060a0")
    ground = [0x40, 0x60, 0xa0] if color else [0.299 * 0x40 + 0.587 * 0x60 + 0.114 * 0xa0]
    np.testing.assert_allclose(opaque[0, -1] * 128 + 128, ground, atol=1.01)  # the last columns hold no ink
    np.testing.assert_allclose(graphs(FILES[name], **on), opaque, atol=1.01 / 128)
    np.testing.assert_array_equal(graphs(stored.content, **on), opaque)


# ---- the EXIF orientation

@pytest.mark.parametrize("data", [
    exif(0), exif(9), exif(6)[:14], exif(6)[:20], exif(6)[:28], b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff",
    b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0noise",
], ids=range(9))
def test_broken_or_unknown_orientations_are_none(data, graphs):
    file = saved(PICTURE, "JPEG", quality=90, exif=data)
    stored = standard_image(file, CONFIG)
    assert stored.size == (WIDTH, HEIGHT)
    assert_alike("jpeg", graphs(file), graphs(stored.content))


def test_an_orientation_in_xmp_alone_counts_for_datasets():
    packet = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'
    file = saved(PICTURE, "JPEG")
    file = file[:2] + b"\xff\xe1" + struct.pack(">H", len(packet) + 2) + packet + file[2:]
    assert standard_image(file, CONFIG).size == (HEIGHT, WIDTH)


# ---- bits

@pytest.mark.parametrize("image, told", [
    (deep(-5, np.int32), "pixels from -5 to 0"), (deep(300, np.float32), "from 0 to 300"),
    (deep(np.nan, np.float32), "floating point"), (deep(0, np.float32), "from 0 to 0"),
])
def test_pixels_of_an_unknown_range_are_refused(image, told):
    with pytest.raises(BadImage) as caught:
        standard_image(saved(image, "TIFF"), CONFIG)
    assert told in caught.value.args[1] and "8 bits" in caught.value.args[1]


def png_of_16_bit_colours(top):
    row = b"\0" + struct.pack(">3H", top, top, 0) * 4
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 3, 16, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(row * 3)) + chunk(b"IEND", b""))


def test_colours_of_16_bits_that_come_out_blank_are_refused(graphs):
    with pytest.raises(BadImage, match="unreadable image.*use the lower bits only"):
        standard_image(png_of_16_bit_colours(255), CONFIG)
    assert "lower bits only" in graphs(png_of_16_bit_colours(255), color=True)
    file = png_of_16_bit_colours(65535)
    assert standard_image(file, CONFIG).content is file
    np.testing.assert_allclose(graphs(file, color=True)[5, 5] * 128 + 128, [255, 255, 0])


# ---- frames

@pytest.mark.parametrize("format, mode", [("GIF", "P"), ("TIFF", "L"), ("PNG", "L")])
def test_further_frames_are_told(format, mode, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with open("a.image", "wb") as file:
        file.write(saved(PICTURE.convert(mode), format, save_all=True, append_images=[RED_GROUND.convert(mode)]))
    checked = check(Row("list", 1, b"", "X", "a.image"), CONFIG)
    assert [kind for kind, _ in checked.notes] == [FRAMES] and "a.image: only the first" in checked.notes[0][1]
    with open("list", "w") as file:
        file.write("a.image X\n")
    assert main(["dataset", "list", "out", "--workers", "1", "--log-path", "", "--strict"]) == 1
    assert f"--strict: 1 problems, 1 {FRAMES}" in capsys.readouterr().err


def test_one_frame_is_not_told():
    for name in ("gif", "tiff", "png", "jpeg"):
        assert standard_image(FILES[name], CONFIG).notes == ()


def gif_with(frames, size=(WIDTH, HEIGHT)):
    """Returns the GIF of `frames` (each a GIF of one), with another screen size."""
    file = frames[0][:6] + struct.pack("<HH", *size) + frames[0][10:-1]
    return file + b"".join(frame[image_of(frame):-1] for frame in frames[1:]) + b";"


def image_of(gif):
    """Returns where the image of a GIF begins."""
    return gif.index(b"\x2c", 13 + 3 * (2 << (gif[10] & 7)))


def test_what_follows_the_first_frame_of_a_gif_is_not_decoded(graphs):
    huge = bytearray(saved(INVERTED, "GIF"))
    at = image_of(huge)
    huge[at + 5:at + 9] = b"\xff" * 4  # 65535 x 65535 pixels
    np.testing.assert_array_equal(graphs(gif_with([FILES["gif"], bytes(huge)])), graphs(FILES["gif"]))
    assert "does not cover" in graphs(gif_with([bytes(huge)]))
    assert "does not cover" in graphs(gif_with([FILES["gif"]], (WIDTH + 1, HEIGHT)))


# ---- limits

def patched(name, *patches):
    file = bytearray(FILES[name])
    for at, format, *values in patches:
        file[at:at + struct.calcsize(format)] = struct.pack(format, *values)
    return bytes(file)


def start_of_frame(file):
    return next(at for at in range(len(file)) if file[at:at + 2] in (b"\xff\xc0", b"\xff\xc2"))


HUGE = {
    "png": patched("png", (16, ">II", 12_000, 9_000)), "gif": patched("gif", (6, "<HH", 12_000, 9_000)),
    "jpeg": patched("jpeg", (start_of_frame(FILES["jpeg"]) + 5, ">HH", 9_000, 12_000)),
    "bmp": patched("bmp", (18, "<ii", 12_000, 9_000)), "bmp upside down": patched("bmp", (18, "<ii", 12_000, -9_000)),
    "webp lossless": patched("webp", (21, "<I", 11_999 | 8_999 << 14)),
    "webp lossy": patched("webp lossy", (26, "<HH", 12_000, 9_000)),
    "webp extended": patched("webp turned 3", (24, "<HBHB", 11_999, 0, 8_999, 0)),
    "png, overflowing": patched("png", (16, ">II", 2**32 - 1, 2**32 - 1)),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_image_is_refused_before_it_is_decoded(name, graphs):
    with pytest.raises(BadImage):
        standard_image(HUGE[name], CONFIG)
    problem = graphs(HUGE[name])
    assert problem.endswith(" x 9000; the limit is --max-pixels 50000000" if "overflow" not in name else
                            "4294967295 x 4294967295; the limit is --max-pixels 50000000")


def test_max_pixels_counts_the_last_pixel(graphs):
    for name in ("png", "gif", "jpeg", "bmp", "webp", "webp lossy", "webp turned 3"):
        assert f"the limit is --max-pixels {WIDTH * HEIGHT - 1}" in graphs(FILES[name], max_pixels=WIDTH * HEIGHT - 1)
        assert graphs(FILES[name], max_pixels=WIDTH * HEIGHT).shape[0] == 32


def test_large_images_of_a_dataset_are_unreadable_with_and_without_a_sidecar(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tf.io.TFRecordWriter("foreign.tfrecords") as writer:
        for file in (FILES["png"], HUGE["webp lossless"], FILES["jpeg turned 6 <"]):
            writer.write(to_example(file, "A").SerializeToString())
    found = scan("foreign.tfrecords")
    assert found.unreadable == {
        1: "the image cannot be decoded: 12000 x 9000; the limit is --max-pixels 50000000"}
    assert found.widths == {round(WIDTH / HEIGHT * 32): 2}  # the turned one is upright
    with open("list", "w") as file:
        file.write("a.png A\nb.png B\n")
    Image.new("L", (50, 40)).save("a.png")
    Image.new("L", (5, 4)).save("b.png")
    assert main(["dataset", "list", "out", "--workers", "1", "--log-path", "", "--background", "red"]) == 0
    assert scan("out").unreadable == {}
    found = scan("out", max_pixels=1999)
    assert found.unreadable == {0: "the image cannot be decoded: 50 x 40; the limit is --max-pixels 1999"}
    assert list(found.backgrounds) == ["#ff0000"]


def test_only_files_are_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    os.symlink("/dev/zero", tmp_path / "link")
    for path, told in ((tmp_path / "pipe", "pipe"), (tmp_path / "link", "device"), ("/dev/null", "device"),
                       (tmp_path, "directory"), ("a\0b", "not valid text"), ("\ud800", "not valid text")):
        with pytest.raises(OSError, match=told):
            read_image_file(str(path))
        assert check(Row("list", 1, b"", "X", str(path)), CONFIG).kind == "unreadable image"
    with pytest.raises(FileNotFoundError):
        read_image_file(str(tmp_path / "none"))
    (tmp_path / "file").write_bytes(b"12345678")
    for most in (8, 7):
        monkeypatch.setattr(image_files, "MOST_BYTES", most)
        if most == 8:
            assert read_image_file(str(tmp_path / "file")) == b"12345678"
    with pytest.raises(OSError, match="8 bytes; the limit is 7"):
        read_image_file(str(tmp_path / "file"))
    with pytest.raises(BadImage, match="8 bytes; the limit is 7"):
        standard_image(b"12345678", CONFIG)


# ---- the background belongs to the model

@pytest.fixture
def transparent(tmp_path, monkeypatch):
    """Changes to a directory with black.tfrecords and white.tfrecords, of a transparent image on each."""
    monkeypatch.chdir(tmp_path)
    with open("a.png", "wb") as file:
        file.write(FILES["png rgba"])
    with open("list", "w") as file:
        file.write("a.png A\n")
    for color in ("black", "white"):
        assert main(["dataset", "list", f"{color}.tfrecords", "--background", color, "--workers", "1", "--log-path",
                     ""]) == 0


def test_the_background_goes_from_dataset_to_dataset_to_model(transparent, capsys):
    assert {background_of(scan("black.tfrecords"), given) for given in (None, "black", "#000000")} == {"#000000"}
    assert main(["dataset", "black.tfrecords", "copy", "--workers", "1", "--log-path", ""]) == 0
    assert list(scan("copy").backgrounds) == ["#000000"]
    for arguments in (["black.tfrecords", "white.tfrecords", "both"],
                      ["white.tfrecords", "other", "--background", "black"]):
        assert main(["dataset", *arguments, "--workers", "1", "--log-path", ""]) == 2
        told = capsys.readouterr().err
        assert "#000000" in told and "#ffffff" in told and "white.tfrecords" in told
    with pytest.raises(UserError, match="#ffffff .white.tfrecords. and #ff0000 .--background"):
        background_of(scan("white.tfrecords"), "red")
    os.remove("white.tfrecords.json")
    assert background_of(scan("white.tfrecords"), None) == "#ffffff"  # unknown
    assert background_of(scan("white.tfrecords"), "red") == "#ff0000"


def test_a_model_keeps_its_background_and_refuses_another(transparent):
    described = prepare._describe(scan("black.tfrecords"), dict(max_pixels=9999), None, None, TrainConfig())
    stored = Description.from_json(described.to_json(), "model.json")
    assert (stored.config.background, stored.config.max_pixels) == ("#000000", 9999)
    older = described.to_json().replace('"background": "#000000",', "").replace('"max_pixels": 9999,', "")
    older = Description.from_json(older, "model.json").config
    assert (older.background, older.max_pixels) == ("#ffffff", 50_000_000)
    with pytest.raises(UserError, match="--background is white, but the model in model has #000000; leave the flag"):
        with_flags(stored, dict(background="white"), None, "model")
    assert with_flags(stored, dict(background="#000", max_pixels=400), None, "model").config.max_pixels == 400
