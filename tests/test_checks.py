"""Images of all formats, intact and corrupt: decoded as displayed, or rejected with a reason, never fatal."""

import io
import os
import re
import struct
import zlib

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from aocr.cli import main
from aocr.config import DatasetConfig
from aocr.data.checks import Checked, check, clean_label
from aocr.data.rows import BadRow, Rejected, Row
from aocr.data.workers import checked_rows
from aocr.graph.preprocess import lay_on
from aocr.image_files import BadImage, standard_image
from aocr.images import decode_image

CONFIG = DatasetConfig(workers=1)
WIDTH, HEIGHT = 13, 7


def picture(mode="RGB"):
    """Returns a colourful image, partly transparent in modes with alpha."""
    random = np.random.RandomState(7)
    image = Image.fromarray(random.randint(0, 256, (HEIGHT, WIDTH, 3), np.uint8), "RGB").resize((39, 21), Image.BICUBIC)
    if mode in ("RGBA", "LA"):
        alpha = Image.fromarray(np.tile(np.linspace(0, 255, 39).astype(np.uint8), (21, 1)))
        image.putalpha(alpha)
    return image.convert(mode)


def saved(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def sixteen_bits():
    values = np.linspace(0, 65535, 39 * 21).reshape(21, 39).astype(np.uint16)
    return Image.fromarray(values)


def with_orientation(image, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return dict(exif=exif)


def cmyk():
    return picture().convert("CMYK")


# name -> (file, displayed RGB or grey image; None: as Pillow decodes it)
READABLE = {
    "png grey": (saved(picture("L"), "PNG"), picture("L")),
    "png rgb": (saved(picture(), "PNG"), picture()),
    "png 1 bit": (saved(picture("1"), "PNG"), picture("1")),
    "png palette": (saved(picture("P"), "PNG"), picture("P")),
    "png palette of 4": (saved(picture().quantize(4), "PNG", bits=2), picture().quantize(4)),
    "png rgba": (saved(picture("RGBA"), "PNG"), picture("RGBA")),
    "png grey and alpha": (saved(picture("LA"), "PNG"), picture("LA")),
    "png one transparent colour": (saved(picture("L"), "PNG", transparency=picture("L").getpixel((5, 5))), None),
    "png palette, transparent": (saved(picture("P"), "PNG", transparency=picture("P").getpixel((5, 5))), None),
    "png 16 bit": (saved(sixteen_bits(), "PNG"), Image.fromarray((np.asarray(sixteen_bits()) >> 8).astype(np.uint8))),
    "png rotated": (saved(picture(), "PNG", **with_orientation(picture(), 6)), picture().transpose(Image.ROTATE_270)),
    "jpeg": (saved(picture(), "JPEG", quality=95), None),
    "jpeg grey": (saved(picture("L"), "JPEG", quality=95), None),
    "jpeg progressive": (saved(picture(), "JPEG", quality=95, progressive=True), None),
    "jpeg cmyk": (saved(cmyk(), "JPEG", quality=95), None),
    "gif": (saved(picture("P"), "GIF"), picture("P")),
    "gif transparent": (saved(picture("P"), "GIF", transparency=picture("P").getpixel((5, 5))), None),
    "gif animated": (saved(picture("P"), "GIF", save_all=True, append_images=[picture("P").rotate(90)]), picture("P")),
    "bmp": (saved(picture(), "BMP"), picture()),
    "bmp grey": (saved(picture("L"), "BMP"), picture("L")),
    "bmp palette": (saved(picture("P"), "BMP"), picture("P")),
    "bmp 1 bit": (saved(picture("1"), "BMP"), picture("1")),
    "bmp 32 bit": (saved(picture("RGBA"), "BMP"), None),
    "webp": (saved(picture(), "WEBP", lossless=True), picture()),
    "webp rgba": (saved(picture("RGBA"), "WEBP", lossless=True, exact=True), picture("RGBA")),
    "tiff": (saved(picture(), "TIFF"), picture()),
    "tiff cmyk": (saved(cmyk(), "TIFF"), cmyk()),
    "tiff 1 bit": (saved(picture("1"), "TIFF", compression="group4"), picture("1")),
    "tiff 16 bit": (saved(sixteen_bits(), "TIFF"),
                    Image.fromarray((np.asarray(sixteen_bits()) >> 8).astype(np.uint8))),
    "ppm": (saved(picture(), "PPM"), picture()),
    "tga": (saved(picture(), "TGA"), picture()),
}
READABLE.update({f"jpeg orientation {k}": (saved(picture(), "JPEG", quality=95, **with_orientation(picture(), k)), None)
                 for k in range(2, 9)})
ANIMATED_WEBP = saved(picture(), "WEBP", save_all=True, append_images=[picture().rotate(180)], lossless=True)


def shown(file):
    """Returns an image file as Pillow decodes it: uint8 [h, w, 3], upright, on white."""
    from PIL import ImageOps

    with Image.open(io.BytesIO(file)) as image:
        return on_white(ImageOps.exif_transpose(image))


def on_white(image):
    image = image.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


def as_the_network_sees_it(file):
    pixels = decode_image(file, CONFIG.max_pixels)
    if pixels.shape[2] % 2 == 0:
        pixels = lay_on(pixels, "#ffffff", lambda part: tf.cast(part, tf.float32))
    pixels = pixels.numpy().astype(np.float32)
    return np.broadcast_to(np.round(pixels), (*pixels.shape[:2], 3))


@pytest.mark.parametrize("name", READABLE)
def test_what_is_stored_shows_what_the_file_shows(name):
    file, expected = READABLE[name]
    stored, size, *_ = standard_image(file, CONFIG)
    expected = shown(file) if expected is None else on_white(expected)
    got = as_the_network_sees_it(stored)
    assert size == (got.shape[1], got.shape[0])
    assert got.shape == expected.shape
    error = np.abs(got - expected)
    most = 16 if stored is file and name.startswith("jpeg") else 1  # TensorFlow's JPEG decoder uses a coarser transform
    assert error.max() <= most and error.mean() < 3
    assert standard_image(stored, CONFIG)[0] == stored, "a stored image is stored again unchanged"


def test_what_needs_no_change_is_kept_byte_for_byte():
    for name in ("png grey", "png rgb", "png rgba", "png palette", "png 16 bit", "jpeg", "jpeg progressive", "webp"):
        file, _ = READABLE[name]
        assert standard_image(file, CONFIG)[0] is file, name


def test_a_background_of_choice():
    red = DatasetConfig(background="#ff0000")
    for name in ("png rgba", "webp rgba"):
        stored, *_ = standard_image(READABLE[name][0], red)
        assert as_the_network_sees_it(stored)[3, 0].tolist() == [255, 0, 0], name  # alpha is 0 at the left edge


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width, height):
    """Returns a small file whose header states an image of any size."""
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""))


@pytest.mark.parametrize("width, height", [(50_000, 50_000), (2 ** 31 - 1, 2 ** 31 - 1), (7072, 7072)])
def test_a_huge_header_is_refused_before_decoding(width, height):
    with pytest.raises(BadImage) as caught:
        standard_image(png_of(width, height), CONFIG)
    assert caught.value.args[0] in ("too many pixels", "unreadable image")
    assert "50000000" in caught.value.args[1] or width == 2 ** 31 - 1
    assert standard_image(saved(Image.new("L", (90, 100)), "PNG"), DatasetConfig(max_pixels=9000))[1] == (90, 100)
    with pytest.raises(BadImage, match="90 x 101; the limit is --max-pixels 9000"):
        standard_image(saved(Image.new("L", (90, 101)), "PNG"), DatasetConfig(max_pixels=9000))


@pytest.mark.parametrize("file, told", [
    (b"", "empty file"), (b"text", "cannot identify"), (ANIMATED_WEBP, "animated WebP"),
    (saved(picture(), "EPS"), "PostScript"),
    (saved(Image.new("F", (3, 3)), "TIFF"), "floating point"),
])
def test_what_cannot_be_read_is_rejected_with_a_reason(file, told, tmp_path):
    (tmp_path / "a.png").write_bytes(file)
    rejected = check(Row("list", 7, b"raw", "X", str(tmp_path / "a.png")), CONFIG)
    assert isinstance(rejected, Rejected) and rejected[:4] == ("list", 7, b"raw", "unreadable image")
    assert told in rejected.reason and str(tmp_path / "a.png") in rejected.reason


def test_files_whose_names_differ_in_unicode_form_only(tmp_path):
    decomposed = tmp_path / "Mu\u0308ller" / "C\u030capek.png"
    decomposed.parent.mkdir()
    Image.new("L", (3, 3)).save(decomposed)
    (tmp_path / "\xe9.png").write_bytes(decomposed.read_bytes())
    for path in ("M\xfcller/\u010capek.png", "M\xfcller/C\u030capek.png", str(tmp_path / "M\xfcller/\u010capek.png"),
                 "e\u0301.png", "./e\u0301.png"):
        assert isinstance(check(Row(str(tmp_path / "list"), 7, b"", "X", path), CONFIG), Checked), path
    assert check(Row("list", 7, b"", "X", "M\xfcller/x.png"), CONFIG).kind == "missing image"


@pytest.mark.parametrize("path", ["a\nb.png", "a\0.png", "a\rb.png"])
def test_paths_with_zeros_or_line_breaks(path):
    rejected = check(Row("list", 7, b"", "X", path), CONFIG)
    assert rejected.kind == "unreadable image" and "a zero or a line break in the path" in rejected.reason


@pytest.mark.parametrize("path", ["http://example.org/a.png", "nothing://a.png", "gs://\ud800/a.png", "a\0.png",
                                  "\ud800"])
def test_a_path_that_leads_nowhere_is_one_row_less(path):
    rejected = check(Row("list", 7, b"raw", "X", path), CONFIG)
    assert isinstance(rejected, Rejected) and rejected.kind in ("missing image", "unreadable image")
    assert "http" not in path or "File system scheme 'http' not implemented" in rejected.reason


def broken_files():
    """Yields some 300 files: every readable one truncated, with flipped bits or zeroed; and noise."""
    random = np.random.RandomState(3)
    for name, (file, _) in READABLE.items():
        for share in (0.1, 0.5, 0.98):
            yield f"{name}, cut", file[:int(len(file) * share)]
        for _ in range(3):
            damaged = bytearray(file)
            for place in random.randint(0, len(file), 4):
                damaged[place] ^= 1 << random.randint(8)
            yield f"{name}, damaged", bytes(damaged)
        yield f"{name}, zeros at the end", file[:len(file) // 2] + bytes(len(file) // 2)
        yield f"{name}, wrong start", b"\0" * 8 + file[8:]
    for length in (1, 11, 100, 5000):
        yield "noise", random.bytes(length)
    yield "zeros", bytes(1000)


def test_300_broken_files_are_read_or_rejected_and_none_is_fatal():
    rows = [Row("list", number, b"", name, image=file) for number, (name, file) in enumerate(broken_files())]
    assert len(rows) >= 300
    results = list(checked_rows(iter(rows), CONFIG))
    assert [(result.row if isinstance(result, Checked) else result).number for result in results] == [
        row.number for row in rows]
    rejected = [result for result in results if isinstance(result, Rejected)]
    assert len(rejected) > 150
    assert all(result.reason and "\n" not in result.reason for result in rejected)
    for result in results:
        if isinstance(result, Checked):
            assert decode_image(result.image, CONFIG.max_pixels).shape[:2] == result.size[::-1]


GOOD_LINE = b"good.png\tcafe"
BAD_LINES = {  # malformed variants -> reported kind
    b"good.png\tcaf\xe9": "not UTF-8", b"good.png\tcaf\xc3": "not UTF-8", b"good\xff.png\tcafe": "not UTF-8",
    b"good.png\tca\x00fe": "control character", b"good.png\tca\xe2\x80\xa8fe": "control character",
    b"good.png": "no label field", b"\tcafe": "no label field"}


@pytest.fixture
def odd_lines(tmp_path, monkeypatch):
    """Changes to a directory with `list` of images in every state; returns (lines, {line number: expected kind}).

    All file names have the extension of another format.
    """
    monkeypatch.chdir(tmp_path)
    Image.new("L", (9, 9), 200).save("good.png")
    lines, bad = [], {}

    def add(content, label, expected=None):
        name = f"{len(lines)}.{'jpg' if content[:4] == READABLE['png rgb'][0][:4] else 'png'}"
        with open(name, "wb") as file:
            file.write(content)
        lines.append(f"{name}\t{label}".encode())
        if expected:
            bad[len(lines)] = expected

    for name, (file, _) in READABLE.items():
        add(file, name)
    for name, file in broken_files():
        add(file, name)
    for size in ((50_000, 50_000), (7072, 7072), (1_000_000_000, 1)):
        add(png_of(*size), "huge", "too many pixels")
    for content in (b"", b"a text", bytes(1000), READABLE["jpeg"][0][:20], ANIMATED_WEBP,
                    saved(Image.new("F", (3, 3)), "TIFF")):
        add(content, "broken", "unreadable image")
    os.mkdir("folder.png")
    lines += [b"folder.png\tX", b"none.png\tX", *BAD_LINES]
    bad.update(enumerate(["unreadable image", "missing image", *BAD_LINES.values()],
                         len(lines) - len(BAD_LINES) - 1))
    with open("list", "wb") as file:
        file.write(b"\n".join(lines))
    return lines, bad


def test_hundreds_of_odd_inputs_are_used_or_told_of_and_can_be_fed_again_when_they_are_mended(odd_lines, capsys):
    lines, bad = odd_lines

    def make(*arguments):
        code = main(["dataset", *arguments, "--workers", "1", "--log-path", "", "--no-force-uppercase"])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, dict(line.split(": ") for line in captured.out.splitlines()), captured.err

    assert len(lines) > 350
    code, counts, err = make("list", "out", "--rejects", "rejects")
    skipped = {int(number): kind for number, kind in re.findall(r"list:(\d+): skipped, (.*?): ", err)}
    assert code == 0 and int(counts["records"]) + int(counts["skipped"]) == len(lines)
    assert int(counts["skipped"]) == len(skipped) == err.count(": skipped, ") > 150
    assert bad.items() <= skipped.items() and not set(skipped) & set(range(1, len(READABLE) + 1))
    with open("rejects", "rb") as file:
        rejects = file.read().split(b"\n")[:-1]
    assert rejects == [lines[number - 1] for number in skipped]

    code, counts, err = make("list", "strict", "--strict", "--rejects", "strict-rejects")
    assert (code, counts) == (1, {}) and "--strict: " in err and not os.path.exists("strict")
    with open("strict-rejects", "rb") as file:
        assert file.read().split(b"\n")[:-1] == rejects

    os.rmdir("folder.png")
    for number, line in enumerate(rejects):
        if line not in BAD_LINES:
            Image.new("L", (3 + number // 256, 5), number % 256).save(line.split(b"\t")[0].decode(), "PNG")
    with open("rejects", "wb") as file:
        file.writelines((GOOD_LINE if line in BAD_LINES else line) + b"\n" for line in rejects)
    code, counts, err = make("rejects", "mended", "--strict", "--rejects", "none")
    assert (code, counts["records"], counts["skipped"]) == (0, str(len(rejects)), "0"), err
    assert os.path.getsize("none") == 0


@pytest.mark.parametrize("label, clean, notes", [
    ("abc", "ABC", ()), ("stra\xdfe", "STRASSE", ()), (" a\xa0", "A", ("whitespace around the label",)),
    ("e\u0301", "\xc9", ()),
    ("\u0390", "\u03aa\u0301", ()), ("a\u200db", "A\u200dB", ("invisible character",)),
    ("\u05e9\u05dc", "\u05e9\u05dc", ()), ("", "", ()),
])
def test_labels(label, clean, notes):
    got, noted = clean_label(label, CONFIG)
    assert got == clean and tuple(kind for kind, _ in noted) == notes


@pytest.mark.parametrize("label, told", [
    ("a\u200bb", "U+200B (ZERO WIDTH SPACE) at position 1"), ("\u202eab", "U+202E (RIGHT-TO-LEFT OVERRIDE)"),
    ("so\xadft", "U+00AD (SOFT HYPHEN) at position 2"), ("a\xa0b", "U+00A0 (NO-BREAK SPACE) at position 1"),
    ("\ufeffa", "U+FEFF (ZERO WIDTH NO-BREAK SPACE) at position 0"), ("a\u2060b", "U+2060 (WORD JOINER)"),
    ("\u05d0\u200f", "U+200F (RIGHT-TO-LEFT MARK) at position 1"), ("a\u3000b", "U+3000 (IDEOGRAPHIC SPACE)"),
    ("a\u2800b", "U+2800"), ("x\u200c\u0645", "U+200C (ZERO WIDTH NON-JOINER) at position 1"),
])
def test_invisible_characters_are_kept_and_named(label, told):
    clean, ((kind, text),) = clean_label(label, DatasetConfig(force_uppercase=False))
    assert (clean, kind) == (label, "invisible character") and told in text


@pytest.mark.parametrize("label", [
    "\u0645\u06cc\u200c\u0631\u0648\u0645", "\u0915\u094d\u200d\u0937", "\U0001f469\u200d\U0001f4bb",
    "\U0001f3f3\ufe0f\u200d\U0001f308", "\u5b57\u3000\u5b57", "a b", "e\u0301"])
def test_characters_that_belong_where_they_are_are_not_noted(label):
    assert clean_label(label, DatasetConfig(normalize="none")) == (label.upper(), ())


@pytest.mark.parametrize("end", ["\t", "\f", "\v", "\n", "\r\n", "\xa0", "\u3000", "\u2003", "\x85", " \t "])
def test_blank_characters_at_the_ends_are_stripped(end):
    clean, notes = clean_label(f"{end}A B{end}", CONFIG)
    assert clean == "A B" and [kind for kind, _ in notes] == ["whitespace around the label"]


def test_the_longest_label():
    assert clean_label("a" * 1000, CONFIG) == ("A" * 1000, ())
    with pytest.raises(BadRow, match="1001 characters, '[aA]{80}.*; the limit is 1000"):
        clean_label("a" * 1001, CONFIG)


@pytest.mark.parametrize("label", ["a\tb", "a\nb", "\x00", "a\u2028b", "\ud800"])
def test_labels_that_are_no_text(label):
    with pytest.raises(BadRow, match="control character"):
        clean_label(label, CONFIG)
