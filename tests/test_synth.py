"""Drawn words: complete, legible and reproducible; undrawable words are errors."""

import os
import re
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageFont

from aocr.cli import main
from aocr.data.lists import parse_line
from aocr.synth.drawing import LEAST_CONTRAST, LUMA, Artist, RenderConfig
from aocr.synth.materials import BUILT_IN, Fonts
from aocr.synth.words import read_words


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Changes to tmp_path."""
    monkeypatch.chdir(tmp_path)


def synth(*arguments):
    """Runs `aocr synth` and returns its exit code."""
    return main(["synth", *map(str, arguments), "--log-path", ""])


def contents(directory):
    """Returns [(label, bytes of the image)] from the annotation file."""
    with open(os.path.join(directory, "annotations.txt"), encoding="utf-8") as file:
        rows = [parse_line(line.rstrip("\n")) for line in file]
    return [(label, open(path, "rb").read()) for path, label in rows]


def font_of(name, first, last):
    """Writes Pillow's built-in font with its characters U+0020 to U+007E reduced to `first` to `last`."""
    data = bytearray(ImageFont.load_default(30).path.getvalue())
    tables = [struct.unpack_from(">4s4xL", data, 12 + 16 * k) for k in range(struct.unpack_from(">H", data, 4)[0])]
    cmap, = (offset for tag, offset in tables if tag == b"cmap")
    subtable = cmap + struct.unpack_from(">L", data, cmap + 8)[0]
    form, _, _, segments_twice = struct.unpack_from(">4H", data, subtable)
    ends, starts = subtable + 14, subtable + 16 + segments_twice
    assert form == 4 and struct.unpack_from(">H", data, ends) == (0x7E,)
    struct.pack_into(">H", data, ends, ord(last))
    struct.pack_into(">H", data, starts, ord(first))
    with open(name, "wb") as file:
        file.write(data)
    return name


def test_the_command_writes_images_and_annotations(capsys):
    assert synth("words", "--count", 3, "--seed", 7, "--pattern", "A/B C") == 0
    assert capsys.readouterr().out == "images: 3\nannotations: words/annotations.txt\n"
    with open("words/annotations.txt", encoding="utf-8") as file:
        assert file.read() == "".join(f"words/000{k}-A_B_C.png\tA/B C\n" for k in range(3))
    assert sorted(os.listdir("words")) == [f"000{k}-A_B_C.png" for k in range(3)] + ["annotations.txt"]
    assert Image.open("words/0000-A_B_C.png").mode == "L"


def test_an_image_depends_on_seed_and_number_alone():
    """Not on the number of processes or words."""
    assert synth("one", "--count", 9, "--seed", 5, "--workers", 1) == 0
    assert synth("two", "--count", 9, "--seed", 5, "--workers", 2) == 0
    assert synth("more", "--count", 131, "--seed", 5, "--workers", 1) == 0
    assert synth("other", "--count", 9, "--seed", 6, "--workers", 1) == 0
    one, two, more, other = map(contents, ("one", "two", "more", "other"))
    assert one == two == more[:9] and len(one) == 9
    assert len(set(more)) == 131
    assert not {label for label, _ in one} & {label for label, _ in other}


def test_words_are_of_3_to_6_characters_unless_told():
    assert synth("words", "--count", 700, "--workers", 1, "--min-font-size", 6, "--max-font-size", 6) == 0
    words = [label for label, _ in contents("words")]
    assert set("".join(words)) == set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert {len(word) for word in words} == {3, 4, 5, 6}


def test_words_of_a_list():
    with open("list", "wb") as file:
        file.write(b"\xef\xbb\xbfone\r\n\n  two words \n \nthree")
    assert read_words("list").words == ("one", "two words", "three")
    assert synth("words", "--words", "list", "--count", 60, "--workers", 1) == 0
    assert {label for label, _ in contents("words")} == {"one", "two words", "three"}


@pytest.mark.parametrize("content, told", [
    (b"good\ncaf\xe9\n", "list:2: not UTF-8: byte 0xe9 at 3"),
    (b" \n\n", "list: contains no words"),
    (b"", "list: contains no words"),
    (b"A\n" + b"A" * 1001, "list:2: 1001 characters; the maximum is 1000"),
    (None, "list: cannot be read: No such file or directory"),
])
def test_a_list_that_cannot_be_used(content, told, capsys):
    if content is not None:
        with open("list", "wb") as file:
            file.write(content)
    assert synth("words", "--words", "list") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"aocr: error: --words {told}") and len(error.splitlines()) == 1
    assert not os.path.exists("words")


@pytest.mark.parametrize("arguments, told", [
    (["--words", "list", "--pattern", "[0-9A-Z]{3,6}"], "--words and --pattern are mutually exclusive"),
    (["--pattern", "AB*"], r"--pattern AB*: at character 3: `*` is not supported here; write `\*` for the literal"),
    (["--count", "0"], "--count is 0; the minimum is 1"),
    (["--seed", "4294967296"], "--seed is 4294967296; the maximum is 4294967295"),
    (["--min-font-size", "41"], "--min-font-size is 41; the maximum is --max-font-size, 40"),
])
def test_a_wrong_command_line_is_exit_2(arguments, told, capsys):
    assert synth("words", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"aocr: error: {told}") and len(error.splitlines()) == 1
    assert not os.path.exists("words")


def test_a_directory_that_holds_something_is_refused(capsys):
    os.mkdir("words")
    assert synth("words", "--count", 1) == 0
    capsys.readouterr()
    before = contents("words")
    for directory, told in [("words", "words: not empty; name another directory"),
                            ("words/annotations.txt", "words/annotations.txt: is a file"),
                            ("words/annotations.txt/below", "words/annotations.txt/below: cannot be written"),
                            ("two\twords", "'two\\twords': paths in an annotation file"),
                            ("gs://bucket/words", "gs://bucket/words: synth writes to local")]:
        assert synth(directory, "--count", 1) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"aocr: error: {told}") and len(error.splitlines()) == 1
    assert contents("words") == before and os.listdir() == ["words"]


def test_a_font_that_lacks_a_character_is_passed_over_and_counted(capsys):
    font_of("from-h.otf", "H", "~")
    font_of("to-m.ttf", " ", "M")
    open("notes.txt", "w").close()  # other files in a directory are ignored
    for directory, fonts in [("one", ["--fonts", "."]), ("two", ["--fonts", "*.ttf", "--fonts", "from-h.otf"])]:
        assert synth(directory, *fonts, "--pattern", "AK|LN", "--count", 200, "--workers", 1) == 0
        error = capsys.readouterr().err
        counts = [int(n) for n in re.findall("skipped for ([0-9]+) words", error)]
        assert len(counts) == 2 and all(20 < count < 80 for count in counts)  # 50 on average, with a deviation of 6
        assert re.search("from-h.otf: skipped .* lacks 'A'\n", error)
        assert re.search("to-m.ttf: skipped .* lacks 'N'\n", error)
    assert contents("one") == contents("two")


def test_a_word_that_no_font_has_as_a_whole_is_an_error(capsys):
    font_of("from-h.otf", "H", "~")
    font_of("to-m.ttf", " ", "M")
    assert synth("words", "--fonts", "*.*", "--pattern", "A|Z|ZA", "--workers", 1) == 1
    assert re.fullmatch("aocr: error: no font has all characters of 'ZA': (from-h.otf lacks 'A'|to-m.ttf lacks 'Z') "
                        r"\(U\+00..\); add one that has them with --fonts\n", capsys.readouterr().err)
    assert not os.path.exists("words/annotations.txt")


def test_which_characters_a_font_has():
    fonts = Fonts([font_of("to-m.ttf", "!", "M")])
    assert fonts.lacks("to-m.ttf", "AM0!") is None
    assert fonts.lacks("to-m.ttf", "ANZ") == "N"
    assert fonts.lacks("to-m.ttf", "A B") == " "  # it would be drawn as a box
    assert Fonts([]).lacks(BUILT_IN, "two words~") is None
    assert Fonts([]).lacks(BUILT_IN, "a\tb") == "\t"


@pytest.mark.parametrize("word, told", [
    ("caf\u00e9", "no font has the character '\u00e9' (U+00E9); add one that has it with --fonts"),
    ("字", "no font has the character '字' (U+5B57)"),
    ("cafe\u0301", "character '\u0301' (U+0301) cannot be drawn"),
    ("שלום", "character '\u05d5' (U+05D5) cannot be drawn"),
])
@pytest.mark.parametrize("option", ["--words", "--pattern"])
def test_a_character_that_no_font_has_is_told(word, told, option, capsys):
    with open("list", "w", encoding="utf-8") as file:
        file.write(f"good\n{word}\n")
    assert synth("words", option, "list" if option == "--words" else word) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"aocr: error: {told}") and len(error.splitlines()) == 1
    assert not os.path.exists("words")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_while_drawing_is_the_same_in_any_process(workers, capsys):
    """The header of this image is intact, so the error appears only when it is drawn on."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99), np.uint8)).save("whole.png")
    with open("whole.png", "rb") as whole, open("cut.png", "wb") as cut:
        cut.write(whole.read()[:2000])
    assert synth("words", "--backgrounds", "cut.png", "--workers", workers) == 1
    error = capsys.readouterr().err
    assert error.startswith("aocr: error: cut.png: cannot be read as an image: ") and len(error.splitlines()) == 1
    assert os.listdir("words") == []


@pytest.mark.parametrize("option, told", [
    ("--fonts", "cannot be read as a font of 32 pixels: "),
    ("--backgrounds", "cannot be read as an image: "),
])
def test_materials_that_cannot_be_read_are_told(option, told, capsys):
    with open("text.ttf", "w") as file:
        file.write("this is text")
    os.mkdir("empty")
    assert synth("words", option, "text.ttf") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"aocr: error: text.ttf: {told}") and option in error and len(error.splitlines()) == 1
    for missing in ("none.ttf", "none-*", "empty"):
        assert synth("words", option, missing) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"aocr: error: {option} {missing}: no files found") and len(error.splitlines()) == 1
    assert not os.path.exists("words")


@pytest.mark.parametrize("seed", range(20))
def test_a_word_is_whole_and_stands_out(seed):
    image, passed_over = Artist(RenderConfig()).draw("Q0WJ", np.random.default_rng(seed))
    assert image.mode == "L" and 20 <= image.height <= 80 and image.width > image.height and not passed_over
    smooth = np.asarray(image.filter(ImageFilter.MedianFilter(3)), float)
    border = np.concatenate([smooth[0], smooth[-1], smooth[:, 0], smooth[:, -1]])
    ground = np.median(border)
    inside = ground - smooth[2:-2, 2:-2]  # dark on light
    assert np.percentile(inside, 99) > LEAST_CONTRAST * 0.6  # there is ink
    assert np.abs(border - ground).max() < np.percentile(inside, 99)  # and none of it at the border


def test_font_sizes_are_those_that_are_given():
    """Margins add half a font size to a whole one to the height of the text."""
    heights = {Artist(RenderConfig(font_sizes=(60, 60))).draw("Jg", np.random.default_rng(seed))[0].height
               for seed in range(20)}
    assert 60 * 1.3 <= min(heights) <= max(heights) <= 60 * 2.2


def test_color_is_in_ink_and_ground():
    artist = Artist(RenderConfig(color=True))
    for seed in range(20):
        image, _ = artist.draw("MWMW", np.random.default_rng(seed))
        assert image.mode == "RGB"
        pixels = np.asarray(image, float)
        ground = np.median(pixels.reshape(-1, 3), axis=0)
        shades = np.asarray(image.filter(ImageFilter.MedianFilter(3)), float) @ LUMA
        ink = pixels[shades <= np.percentile(shades, 5)].mean(axis=0)
        assert ground @ LUMA - ink @ LUMA > LEAST_CONTRAST * 0.6
    assert np.ptp(ground) > 3 or np.ptp(ink) > 3


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("dark, light", [(0, 40), (200, 255), (0, 255)])
def test_ink_stands_out_from_a_background(color, dark, light):
    stripes = np.where(np.arange(600) // 7 % 2, light, dark).astype(np.uint8)
    Image.fromarray(np.repeat(stripes[None], 400, 0)).convert("RGB").save("stripes.png")
    artist = Artist(RenderConfig(backgrounds=("stripes.png",), color=color))
    for seed in range(5):
        image, _ = artist.draw("MWMWMW", np.random.default_rng(seed))
        assert image.mode == ("RGB" if color else "L")
        shades = np.asarray(image.convert("L"), float)
        ground = shades[:3].mean()  # free of ink
        sides = (np.percentile(shades, 98) - ground, ground - np.percentile(shades, 2))
        assert max(sides) > LEAST_CONTRAST * 0.6
        # The background varies by LEAST_CONTRAST at most; 20 are for the noise.
        assert np.ptp(np.percentile(shades[:3], [10, 90])) < LEAST_CONTRAST + 20
        if light - dark < LEAST_CONTRAST:
            # The background is unchanged, and the ink contrasts with it.
            assert dark - 5 <= ground <= light + 5
            assert sides[0] > sides[1] if light == 40 else sides[1] > sides[0]


def test_small_and_sixteen_bit_backgrounds():
    Image.fromarray(np.full((3, 2), 50 * 257, np.uint16)).save("tiny.png")
    image, _ = Artist(RenderConfig(backgrounds=("tiny.png",))).draw("AB", np.random.default_rng(0))
    assert abs(np.asarray(image, float)[:3].mean() - 50) < 5


def test_a_missing_image_cannot_look_whole(monkeypatch, capsys):
    save, saved = Image.Image.save, []

    def full(image, path):
        saved.append(path)
        if len(saved) == 5:
            raise OSError(28, "No space left on device")
        save(image, path)

    monkeypatch.setattr(Image.Image, "save", full)
    assert synth("words", "--workers", 1) == 1
    assert "words: cannot be written: No space left on device" in capsys.readouterr().err
    assert len(os.listdir("words")) == 4 and all(name.endswith(".png") for name in os.listdir("words"))


@pytest.mark.parametrize("number, code, told", [(signal.SIGINT, 130, "aocr: error: interrupted\n"),
                                                (signal.SIGTERM, 143, "aocr: error: terminated\n"),
                                                (signal.SIGKILL, -signal.SIGKILL, None)])
def test_what_is_interrupted_does_not_look_whole_and_leaves_no_process(number, code, told):
    process = subprocess.Popen(
        [sys.executable, "-m", "aocr", "synth", "words", "--count", "1000000", "--workers", "2", "--log-path", ""],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        end = time.monotonic() + 60
        while not (os.path.isdir("words") and len(os.listdir("words")) > 20) and time.monotonic() < end:
            time.sleep(0.05)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        out, error = process.communicate(timeout=60)  # returns after all processes have closed the pipes
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == code and out == ""
    assert "Traceback" not in error
    if told:
        assert error == told
    assert len(os.listdir("words")) > 20 and not os.path.exists("words/annotations.txt")


def test_drawing_needs_no_tensorflow():
    code = "import sys, aocr.synth.generate; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
