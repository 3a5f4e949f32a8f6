"""The attention pictures: content, sizes, names, and atomic replacement of their directories."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from aocr.aside import LOCK
from aocr.errors import UserError
from aocr.evaluation.visualize import attention_picture, safe_name, write_sample


def encode(image, file_format="PNG", **options):
    """Encodes a PIL image as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def plain(mode, color, size=(40, 24)):
    return Image.new(mode, size, color)


def grey16(value, size=(40, 24)):
    return Image.fromarray(np.full(size[::-1], value, np.uint16))


def with_palette(color, unused=(0, 0, 0)):
    """Returns an image with every pixel index 1 of a palette; index 0 is `unused`."""
    image = plain("P", 1)
    image.putpalette([*unused, *color])
    return image


def bits():
    """Returns a 1-bit image, white except for the lower right quarter."""
    return Image.fromarray(np.fromfunction(lambda y, x: (y < 12) | (x < 20), (24, 40)))


WARM, OTHER = (250, 240, 60), (20, 30, 200)
WHITE = (255, 255, 255)
IMAGES = {  # name: (file, the colour of its upper left part)
    "grey": (encode(plain("L", 235)), (235, 235, 235)),
    "grey jpeg": (encode(plain("L", 235), "JPEG"), (235, 235, 235)),
    "grey with alpha": (encode(plain("LA", (10, 0))), WHITE),
    "16 bits": (encode(grey16(0xEB07)), (235, 235, 235)),
    "RGB": (encode(plain("RGB", WARM)), WARM),
    "RGB jpeg": (encode(plain("RGB", WARM), "JPEG", quality=95), WARM),
    "RGB bmp": (encode(plain("RGB", WARM), "BMP"), WARM),
    "RGB webp": (encode(plain("RGB", WARM), "WEBP", lossless=True), WARM),
    "RGBA": (encode(plain("RGBA", (0, 0, 0, 0))), WHITE),
    "RGBA, a tenth of black": (encode(plain("RGBA", (0, 0, 0, 26))), (229, 229, 229)),
    "palette": (encode(with_palette(WARM)), WARM),
    "palette, transparent": (encode(with_palette(OTHER), transparency=1), WHITE),
    "palette, another transparent": (encode(with_palette(WARM), transparency=0), WARM),
    "1 bit": (encode(bits()), WHITE),
    "CMYK jpeg": (encode(plain("CMYK", (0, 20, 180, 0)), "JPEG", quality=95), (255, 235, 75)),
    "gif": (encode(with_palette(WARM), "GIF"), WARM),
    "animated gif": (encode(with_palette(WARM), "GIF", save_all=True, append_images=[with_palette(OTHER)]), WARM),
}
ALL = pytest.mark.parametrize("encoded, color", IMAGES.values(), ids=IMAGES)
WHITE_WORD = encode(plain("L", 255, (160, 32)))


def frames(directory):
    """Returns the JPEGs of a sample as float arrays [height, width, 3]."""
    count = len([name for name in os.listdir(directory) if name.endswith(".jpg")])
    return [np.asarray(Image.open(os.path.join(directory, f"image_{k}.jpg")), float) for k in range(count)]


def spread(steps, size):
    """Returns uniform attention."""
    return np.full((steps, size), 1 / size)


def at(entries, size):
    """Returns attention [len(entries), size], each step on one entry."""
    return np.eye(size)[entries]


def test_what_is_written(tmp_path):
    directory = write_sample(str(tmp_path), "17-a.png", WHITE_WORD, "ЖЁ字", "ЖЕ字 ", spread(4, 40), 40)
    assert directory == os.path.join(str(tmp_path), "incorrect", "17-a.png")
    sizes = {f"image_{k}.jpg": ("JPEG", (320, 64)) for k in range(4)} | {"image.gif": ("GIF", (320, 64))}
    assert sorted(os.listdir(directory)) == ["attention.png", *sorted(sizes), "word.txt"]
    with open(os.path.join(directory, "word.txt"), "rb") as file:
        assert file.read() == "ЖЁ字\nЖЕ字 \n".encode()
    for name, expected in sizes.items():
        with Image.open(os.path.join(directory, name)) as image:
            assert (image.format, image.size) == expected
    with Image.open(os.path.join(directory, "attention.png")) as image:
        expected = attention_picture(WHITE_WORD, list("ЖЁ字"), "ЖЕ字 ", spread(4, 40), 40)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))


@pytest.mark.parametrize("text, label, verdict", [
    ("AB", "AB", "correct"), ("", "", "correct"), ("AB", "ab", "incorrect"), ("", "A", "incorrect"),
    ("A", "", "incorrect")])
def test_verdict(tmp_path, text, label, verdict):
    directory = write_sample(tmp_path, "3", WHITE_WORD, text, label, spread(len(text) + 1, 40), 40)
    assert directory == os.path.join(tmp_path, verdict, "3")
    with open(os.path.join(directory, "word.txt"), encoding="utf-8") as file:
        assert file.read() == f"{text}\n{label}\n"


def test_animation_has_each_step(tmp_path):
    directory = write_sample(tmp_path, "3", IMAGES["RGB"][0], "A", "A", at([1, 6, 12], 40), 13.25)
    pictures = frames(directory)
    with Image.open(os.path.join(directory, "image.gif")) as animation:
        assert animation.n_frames == len(pictures) == 3
        assert animation.info["loop"] == 0
        for k, picture in enumerate(pictures):
            animation.seek(k)
            assert animation.info["duration"] == 600
            assert np.abs(np.asarray(animation.convert("RGB"), float) - picture).mean() < 4


def test_animation_of_steps_that_are_alike_takes_as_long(tmp_path):
    """Pillow merges them into one frame."""
    directory = write_sample(tmp_path, "3", IMAGES["RGB"][0], "A", "A", spread(3, 40), 13.25)
    with Image.open(os.path.join(directory, "image.gif")) as animation:
        assert (animation.n_frames, animation.info["duration"]) == (1, 1800)


@ALL
def test_attended_part_is_the_bright_one(tmp_path, encoded, color):
    # 40 x 24 is 53 wide at height 32: 14 entries, the last of them cut to one column of 53 (6 of 320 pixels); 6 more
    # are padding.
    first, last = frames(write_sample(tmp_path, "3", encoded, "A", "A", at([0, 13], 20), 13.25))
    assert first.shape == last.shape == (192, 320, 3)
    left, middle, right = ((slice(0, 80), columns) for columns in (slice(0, 6), slice(60, 260), slice(314, 320)))
    assert first[left].mean() > first[middle].mean() + 40
    assert last[right].mean() > last[middle].mean() + 40
    np.testing.assert_allclose(first[right].mean(), first[middle].mean(), atol=3)
    np.testing.assert_allclose(last[left].mean(), last[middle].mean(), atol=3)


@ALL
def test_colors(tmp_path, encoded, color):
    picture, = frames(write_sample(tmp_path, "3", encoded, "", "", spread(1, 14), 13.25))
    # Attention adds a little red and green to dark pixels.
    np.testing.assert_allclose(picture[:80].mean(axis=(0, 1)), color, atol=10)


def test_black_and_white_are_told_apart(tmp_path):
    picture, = frames(write_sample(tmp_path, "3", encode(bits()), "", "", spread(1, 14), 13.25))
    blue = picture[:, :, 2]
    assert blue[104:, 168:].max() < 20 and blue[:88].min() > 235 and blue[:, :152].min() > 235


def test_16_bits_are_scaled_not_clipped(tmp_path):
    picture, = frames(write_sample(tmp_path, "3", encode(grey16(0x4B00)), "", "", spread(1, 14), 13.25))
    np.testing.assert_allclose(picture[:, :, 2], 0x4B, atol=4)


def test_transparent_color_without_a_palette_is_drawn(tmp_path):
    encoded = encode(plain("L", 0), transparency=0)
    picture, = frames(write_sample(tmp_path, "3", encoded, "", "", spread(1, 14), 13.25))
    assert picture[:, :, 2].max() < 4


def test_attention_shows_on_black(tmp_path):
    first, last = frames(write_sample(tmp_path, "3", encode(plain("L", 0)), "A", "A", at([0, 13], 14), 13.25))
    assert first[:, :6].mean() > first[:, 60:].mean() + 20
    assert last[:, 314:].mean() > last[:, :260].mean() + 20


def test_place_of_the_attention(tmp_path):
    # 160 columns become 320: an entry is 8 pixels wide, entry 10 is around pixel 84, its neighbours at 76 and 92.
    pictures = frames(write_sample(tmp_path, "3", WHITE_WORD, "A", "A", np.vstack([at([10], 40), spread(1, 40)]), 40))
    brightness = pictures[0][32].mean(axis=1)
    assert set(np.flatnonzero(brightness > brightness.max() - 6)) <= set(range(82, 86))
    assert brightness[83:85].min() > 248
    np.testing.assert_allclose(brightness[:72], 0.4 * 255, atol=4)
    np.testing.assert_allclose(brightness[96:], 0.4 * 255, atol=4)
    np.testing.assert_allclose(pictures[1], 255, atol=2)


def test_more_of_the_attention_is_brighter(tmp_path):
    attention = 0.5 * at([5], 40) + 0.3 * at([20], 40) + 0.2 * at([35], 40)
    picture, = frames(write_sample(tmp_path, "3", WHITE_WORD, "", "", attention, 40))
    brightness = picture[32].mean(axis=1)
    most, less, least, none = brightness[[44, 164, 284, 240]]
    assert most > less + 20 > least + 40 > none + 60


@pytest.mark.parametrize("size, drawn", [
    ((40, 20), (320, 160)),
    ((1, 1), (320, 320)),
    ((1, 50), (6, 320)),
    ((400, 300), (400, 300)),
    ((500, 40), (600, 48)),
    ((700, 31), (1000, 44)),
    ((900, 7), (1000, 8)),
    ((30, 900), (30, 900)),
    ((3000, 600), (1000, 200)),
    ((2, 3000), (1, 1000)),
])
def test_sizes(tmp_path, size, drawn):
    width, height = size
    drawn_width = max(round(width * 32 / height), 1)
    steps = at([0, -(-drawn_width // 4) - 1], -(-drawn_width // 4))
    encoded = encode(plain("L", 200, size))
    pictures = frames(write_sample(tmp_path, "3", encoded, "A", "A", steps, drawn_width / 4))
    assert [picture.shape for picture in pictures] == [(*drawn[::-1], 3)] * 2


def test_squeezed_image_is_spread_over_its_whole_width(tmp_path):
    # 900 x 7 would be 4114 wide; a canvas of 90 squeezes it to 23 entries, the last one half.
    encoded = encode(plain("RGB", WHITE, (900, 7)))
    first, last = frames(write_sample(tmp_path, "3", encoded, "A", "A", at([0, 22], 23), 22.5))
    assert first[4, 10].mean() > 240 and first[4, 100:].max() < 120
    assert last[4, 997].mean() > 240 and last[4, :900].max() < 120


def test_last_entry_is_cut(tmp_path):
    # 5 columns are an entry and a quarter: the middle of entry 0 is at 2/5 of the picture, not at 1/4.
    picture, = frames(write_sample(tmp_path, "3", encode(plain("L", 255, (25, 160))), "", "", at([0], 2), 1.25))
    assert picture.shape == (320, 50, 3)
    brightness = picture[160].mean(axis=1)
    assert brightness[:20].min() > 248 and brightness[49] < 190


def test_padding_does_not_show(tmp_path):
    attention = 0.5 * at([2], 60) + 0.5 * at([40], 60)
    picture, = frames(write_sample(tmp_path, "3", WHITE_WORD, "", "", attention, 40))
    assert picture[32, 20].mean() > 248 and picture[32, 40:].max() < 120


def test_narrow_peaks_survive_reduction(tmp_path):
    encoded = encode(plain("L", 255, (6000, 32)))
    picture, = frames(write_sample(tmp_path, "3", encoded, "", "", at([750], 1500), 1500))
    assert picture[2, 498:503].max() > 240 and picture[2, :490].max() < 120 and picture[2, 510:].max() < 120


def test_orientation_tags_are_left_alone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    encoded = encode(plain("RGB", WARM, (400, 300)), "JPEG", exif=exif)
    picture, = frames(write_sample(tmp_path, "3", encoded, "", "", spread(1, 11), 10.75))
    assert picture.shape == (300, 400, 3)


def test_earlier_pictures_are_replaced(tmp_path):
    write_sample(tmp_path, "3", WHITE_WORD, "ABC", "ABC", spread(4, 40), 40)
    directory = write_sample(tmp_path, "3", WHITE_WORD, "A", "A", spread(2, 40), 40)
    assert sorted(os.listdir(directory)) == ["attention.png", "image.gif", "image_0.jpg", "image_1.jpg", "word.txt"]
    assert os.listdir(os.path.dirname(directory)) == ["3"]


def test_an_interrupted_sample_leaves_the_earlier_one(tmp_path, monkeypatch):
    directory = write_sample(tmp_path, "3", WHITE_WORD, "A", "A", spread(2, 40), 40)
    save, saved = Image.Image.save, []

    def interrupted(image, path, *args, **kwargs):
        saved.append(path)
        if len(saved) == 2:
            raise KeyboardInterrupt
        save(image, path, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", interrupted)
    for name in ("3", "4"):
        saved.clear()
        with pytest.raises(KeyboardInterrupt):
            write_sample(tmp_path, name, WHITE_WORD, "ABC", "ABC", spread(4, 40), 40)
    assert os.listdir(tmp_path / "correct") == ["3"]
    assert sorted(os.listdir(directory)) == ["attention.png", "image.gif", "image_0.jpg", "image_1.jpg", "word.txt"]


def test_nothing_has_its_name_before_it_is_whole(tmp_path, monkeypatch):
    save, seen = Image.Image.save, []

    def looking(image, path, *args, **kwargs):
        seen.append([name[:6] for name in os.listdir(tmp_path / "correct")])
        save(image, path, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", looking)
    write_sample(tmp_path, "3", WHITE_WORD, "A", "A", spread(2, 40), 40)
    assert seen == [[".aocr-"]] * 4  # two steps, the animation and the picture of all


def test_a_changed_verdict_leaves_one_directory(tmp_path):
    write_sample(tmp_path, "3", WHITE_WORD, "B", "A", spread(2, 40), 40)
    write_sample(tmp_path, "3", WHITE_WORD, "A", "A", spread(2, 40), 40)
    assert os.listdir(tmp_path / "correct") == ["3"] and os.listdir(tmp_path / "incorrect") == []


def test_what_a_killed_run_left_is_cleared_away(tmp_path):
    leftover = tmp_path / "correct" / ".aocr-a7_bcdef.part"
    (leftover / "3").mkdir(parents=True)
    (leftover / LOCK).touch()
    write_sample(tmp_path, "3", WHITE_WORD, "A", "A", spread(2, 40), 40)
    assert os.listdir(tmp_path / "correct") == ["3"]


@pytest.mark.parametrize("verdict", ["correct", "incorrect"])
def test_other_files_than_pictures_are_kept(tmp_path, verdict):
    (tmp_path / verdict / "3").mkdir(parents=True)
    (tmp_path / verdict / "3" / "mine.png").write_bytes(b"mine")
    with pytest.raises(UserError, match="3: other files than pictures are there \\(mine.png\\)"):
        write_sample(tmp_path, "3", WHITE_WORD, "A", "A", spread(2, 40), 40)
    assert [os.listdir(place) for place, _, files in os.walk(tmp_path) if files] == [["mine.png"]]


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", "/etc/passwd", "..", ".", "...", "C:\\x\\y", "\0", "a\nb",
                                  "~", " ", "ж" * 300, "x" * 255, "\udcff.png", ".3.part"])
def test_names_stay_inside(tmp_path, name):
    out = tmp_path / "inner" / "out"
    directory = write_sample(out, name, WHITE_WORD, "", "", spread(1, 40), 40)
    assert os.path.dirname(directory) == str(out / "correct")
    assert os.listdir(out / "correct") == [os.path.basename(directory)]
    assert sorted(os.listdir(directory)) == ["attention.png", "image.gif", "image_0.jpg", "word.txt"]
    assert os.listdir(tmp_path) == ["inner"] and os.listdir(tmp_path / "inner") == ["out"]


@pytest.mark.parametrize("name, safe", [
    ("17-word.png", "17-word.png"),
    ("17-слово 字.png", "17-слово 字.png"),
    ("17-a/b\\c.png", "17-a_b_c.png"),
    ('17-:?*"<>|', "17-_______"),
    ("a\tb\r\n\x7f\x85c", "a_b____c"),
    ("a\udc80b", "a_b"),
    ("../../etc", "_.._etc"),
    ("...hidden", "hidden"),
    (" . a. .", "a"),
    ("", "_"),
    ("..", "_"),
    ("nul", "_nul"),
    ("COM1.png", "_COM1.png"),
    ("CON .x", "_CON .x"),
    ("console", "console"),
    ("x" * 239, "x" * 239),
    ("x" * 240, "x" * 239),
    ("17-" + "字" * 100, "17-" + "字" * 78),  # 3 + 3 * 78 = 237 bytes; one more would be 240
    ("17-" + "x" * 235 + ".png", "17-" + "x" * 235),
])
def test_safe_names(name, safe):
    assert safe_name(name) == safe
    assert safe_name(safe) == safe


def test_long_names_keep_what_tells_them_apart():
    assert safe_name("17-" + "x" * 400) != safe_name("18-" + "x" * 400)


def test_one_picture_of_all_steps():
    picture = np.asarray(attention_picture(WHITE_WORD, "AB", "AB", at([0, 20, 39], 40), 40), float)
    assert picture.shape == (4 + 4 * 68 + 2 * 24, 8 + 400, 3)
    rows = [picture[4 + 68 * k:68 + 68 * k] for k in range(4)]
    image, *steps = (row[:, 84:404].mean(axis=(0, 2)) for row in rows)
    assert image.min() == 255
    for columns, step in zip((slice(0, 8), slice(160, 168), slice(312, 320)), steps):
        assert step[columns].mean() > 200 and np.delete(step, np.arange(320)[columns]).mean() < 130
    drawn = [row[:, :84].min() < 255 for row in rows]
    assert drawn == [False, True, True, True], "each step has its character at the left, the image has none"
    assert not np.array_equal(rows[1][:, :84], rows[2][:, :84])


@pytest.mark.parametrize("text, label, color", [("A", "A", "green"), ("A", "B", "red"), ("", "", "green"),
                                                ("", "A", "red")])
def test_the_texts_below_the_steps_tell_right_from_wrong(text, label, color):
    picture = np.asarray(attention_picture(WHITE_WORD, text, label, spread(len(text) + 1, 40), 40), float)
    read, label = picture[-48:-24], picture[-24:]
    red, green, blue = read.mean(axis=(0, 1))
    assert (green > red + 1) if color == "green" else (red > green + 1)
    assert label.min() < 100 and np.ptp(label, axis=2).max() == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (160, 60), (3000, 20), (900, 900)])
@pytest.mark.parametrize("text", ["", "ABCDEFGHIJK", "x" * 300, "\u0416\n\0\udc80 \u5b57" * 40])
def test_one_picture_is_bounded(size, text):
    encoded = encode(plain("L", 90, size))
    picture = attention_picture(encoded, text, text[::-1], spread(len(text) + 1, 3), 2.75)
    assert picture.mode == "RGB" and 400 <= picture.width <= 900 and picture.height <= 1000


def test_steps_that_are_left_out_are_told_of():
    whole = attention_picture(WHITE_WORD, "A" * 11, "B", spread(12, 40), 40)
    cut = attention_picture(WHITE_WORD, "A" * 12, "B", spread(13, 40), 40)
    assert cut.height == whole.height + 24
    steps = cut.height - 3 * 24
    assert np.asarray(cut)[steps:steps + 24].min() < 100


def test_characters_that_the_font_lacks_are_told_apart():
    first, second = (attention_picture(WHITE_WORD, text, "", spread(2, 40), 40) for text in ("\u0416", "\u5b57"))
    assert first.size == second.size and first.tobytes() != second.tobytes()


@ALL
def test_one_picture_of_each_kind_of_image(encoded, color):
    picture = np.asarray(attention_picture(encoded, "", "", spread(1, 14), 13.25), float)
    np.testing.assert_allclose(picture[4:20, 84:100].mean(axis=(0, 1)), color, atol=10)
