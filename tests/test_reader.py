"""`Reader` and what it reads: inputs, batches, order, errors, threads; with a model that answers at once."""

import functools
import io
import itertools
import threading
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from aocr.config import ModelConfig
from aocr.errors import UserError
from aocr.image_files import standard_image
from aocr.prediction import Alternative, Character, Hypothesis, Reading
from aocr.reading.batches import AHEAD, WINDOW
from aocr.reading.engines import one_by_one
from aocr.reading.images import prepare, source_of
from aocr.reading.reader import Reader
from aocr.reading.results import ReadCharacter, ReadError, ReadResult

CONFIG = ModelConfig()


class Engine:
    """Answers with the width of each image; its first character is in the left quarter. Fails on images in `hopeless`
    (file -> error)."""

    decoding = "joint"

    def __init__(self, hopeless=(), max_pixels=50_000_000):
        self.limits, self.batches, self.closed = ModelConfig(max_pixels=max_pixels), [], False
        self._hopeless = dict(hopeless)

    def read_images(self, encoded, *, details=False):
        return one_by_one(functools.partial(self._read, details), encoded)

    def _read(self, details, encoded):
        sizes = [Image.open(io.BytesIO(file)).width for file in encoded]
        self.batches.append(sizes)
        for problem, kind in self._hopeless.items():
            if problem in encoded:
                raise kind(None, None, "so it is")
        character = Character("X", 0.5, (Alternative("X", 0.5), Alternative("Y", 0.25)), 0.0, 0.25)
        return [Reading(str(width), 0.5, (character,) if details else (), (Hypothesis(str(width), 0.5),))
                for width in sizes]

    def close(self):
        self.closed = True


def png(width, height=5):
    file = io.BytesIO()
    Image.new("L", (width, height), 9).save(file, "PNG")
    return file.getvalue()


def texts(results):
    return [result.text for result in results]


# ---- results

def test_one_image_gives_one_result_with_edges_in_pixels():
    with Reader(Engine()) as reader:
        assert reader.read(png(20)) == ReadResult(
            "20", 0.5, (ReadCharacter("X", 0.5, (Alternative("X", 0.5), Alternative("Y", 0.25)), 0.0, 5.0),),
            (Hypothesis("20", 0.5),), "joint")


def test_edges_are_those_of_the_image_as_displayed():
    image = Image.new("L", (40, 12))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn: 12 wide, 40 high
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    with Reader(Engine()) as reader:
        for given in (file.getvalue(), Image.open(file)):
            result = reader.read(given)
            assert (result.text, result.characters[0].right) == ("12", 3.0)


def test_without_details_there_are_no_characters():
    with Reader(Engine(), details=False) as reader:
        assert reader.read(png(20)).characters == ()


def test_a_result_as_json():
    with Reader(Engine()) as reader:
        assert reader.read(png(8)).as_dict() == dict(
            text="8", confidence=0.5, error=None, hypotheses=[dict(text="8", confidence=0.5)],
            characters=[dict(text="X", confidence=0.5, left=0.0, right=2.0, alternatives=[
                dict(text="X", confidence=0.5), dict(text="Y", confidence=0.25)])])


# ---- inputs

def test_a_list_gives_a_list_and_an_iterator_an_iterator(tmp_path):
    (tmp_path / "a.png").write_bytes(png(3))
    with Reader(Engine()) as reader:
        given = [str(tmp_path / "a.png"), tmp_path / "a.png", png(4), bytearray(png(5)), memoryview(png(6)),
                 Image.new("RGB", (7, 2)), np.zeros([9, 8], np.uint8)]
        assert texts(reader.read(given)) == texts(reader.read(tuple(given))) == ["3", "3", "4", "5", "6", "7", "8"]
        found = reader.read(iter(given))
        assert next(found).text == "3" and texts(found) == ["3", "4", "5", "6", "7", "8"]
        assert reader.read([]) == [] and list(reader.read(iter([]))) == []


def pixels(given):
    prepared = prepare(source_of(given, "it", CONFIG), CONFIG)
    assert not prepared.problem
    return np.asarray(Image.open(io.BytesIO(prepared.image.content)))


@pytest.mark.parametrize("array, expected", [
    (np.array([[0, 1], [254, 255], [3, 4]], np.uint8), [[0, 1], [254, 255], [3, 4]]),
    (np.array([[[0], [1]]], np.uint8), [[0, 1]]),
    (np.array([[True, False, True]]), [[255, 0, 255]]),
    (np.array([[0.0, 0.25, 1.0]]), [[0, 64, 255]]),  # 63.75 rounded
    (np.array([[0.0, 0.5, 1.0]], np.float16), [[0, 128, 255]]),
    (np.array([[[1.0, 0.0, 0.2]]], np.float32), [[[255, 0, 51]]]),
    (np.array([[[1, 2, 3, 4]]], np.uint8), [[[1, 2, 3, 4]]]),
    (np.arange(12, dtype=np.uint8).reshape(3, 4)[:, ::-2], [[3, 1], [7, 5], [11, 9]]),  # not contiguous
])
def test_arrays_keep_their_pixels(array, expected):
    np.testing.assert_array_equal(pixels(array), expected)


@pytest.mark.parametrize("array, problem", [
    (np.zeros([4], np.uint8), "an array of 4; give [height, width] or [height, width, 1, 3 or 4]"),
    (np.zeros([4, 4, 2], np.uint8), "an array of 4 x 4 x 2;"), (np.zeros([2, 4, 4, 3], np.uint8), "2 x 4 x 4 x 3;"),
    (np.zeros([0, 4], np.uint8), "an array of 0 x 4;"), (np.array(1.0), "an array of a single number;"),
    (np.zeros([4, 4], np.int64), "an array of int64; give uint8, bool, or floats from 0 to 1"),
    (np.full([4, 4], 255.0), "floats from 255 to 255; scale them to 0 to 1"),
    (np.full([4, 4], -0.1), "floats from -0.1 to -0.1;"), (np.full([4, 4], np.nan), "floats from nan to nan;"),
    (np.zeros([4, 4], complex), "an array of complex128;"), (np.array([["a"]]), "an array of <U1;")])
def test_arrays_that_are_no_images(array, problem):
    with Reader(Engine()) as reader:
        result, = reader.read([array], errors="return")
        assert result.error.startswith("not an image: ") and problem in result.error and result.text == ""


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr",
                                  "HSV", "I", "I;16", "I;16B", "F"])
@pytest.mark.parametrize("turn", [1, 6])
def test_pil_images_of_any_mode_are_stored_as_their_files(mode, turn):
    """A TIFF or PNG file of the image is the reference; modes that no file has are converted by Pillow first."""
    levels = np.arange(15, dtype=np.uint8).reshape(3, 5) * 17
    image = Image.fromarray(levels)
    if mode.startswith("I"):
        image = Image.fromarray(levels.astype(np.uint16) * 257 if ";" in mode else levels.astype(np.int32) * 257)
    if mode == "PA":
        image = image.convert("P").convert("PA")
    else:
        image = image.convert({"RGBa": "RGBA", "La": "LA"}.get(mode, mode)).convert(mode)
    kept = {"RGBa": "RGBA", "La": "LA", "PA": "RGBA", "HSV": "RGB", "RGBX": "RGB", "I;16B": "I"}.get(mode, mode)
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = turn
    image.info["exif"] = exif.tobytes()
    image.convert(kept).save(file, "TIFF" if kept in ("I", "F", "CMYK", "YCbCr") else "PNG", exif=exif)
    expected = Image.open(io.BytesIO(standard_image(file.getvalue(), CONFIG).content))
    assert expected.size == ((5, 3) if turn == 1 else (3, 5))
    got = pixels(image)
    np.testing.assert_array_equal(got, np.asarray(expected))
    assert got.min() < got.max()


def test_what_is_given_may_change_afterwards():
    """The images are read later than they are taken from an iterator that reuses its buffer."""
    buffer = np.zeros([4, 30], np.uint8)

    def frames():
        for width in (5, 7, 9):
            yield buffer[:, :width]
            picture.paste(255, (0, 0, width, 2))
            yield picture
            buffer[:] = 77

    picture, seen = Image.new("L", (11, 2)), []
    engine = Engine()
    engine.read_images = lambda encoded, details: [
        seen.append(np.asarray(Image.open(io.BytesIO(file))).mean()) or Reading("", 1.0) for file in encoded]
    with Reader(engine, batch_size=1) as reader:
        list(reader.read(frames()))
    assert sorted(seen) == sorted([0, 255 * 5 / 11, 77, 255 * 7 / 11, 77, 255 * 9 / 11])


@pytest.mark.parametrize("given", [3, None, {"a": 1}, {b"x"}, [3], [None, b"x"], iter([{}])])
def test_what_is_no_image_is_a_type_error(given):
    with Reader(Engine()) as reader, pytest.raises(TypeError, match="cannot read a .*; give a path, bytes"):
        list(reader.read(given, errors="return"))


# ---- errors

def test_an_error_is_raised_or_returned(tmp_path):
    given = [png(3), b"no image", str(tmp_path / "none.png"), png(4), str(tmp_path)]
    with Reader(Engine()) as reader:
        found = reader.read(given, errors="return")
        assert texts(found) == ["3", "", "", "4", ""] and [one.error is None for one in found] == [1, 0, 0, 1, 0]
        assert "not a supported image" in found[1].error and found[2].error == "no such file"
        assert "is a directory" in found[4].error
        with pytest.raises(ReadError, match="^image 1: unreadable image: not a supported image"):
            reader.read(given)
        with pytest.raises(ReadError, match="^.*none.png: no such file$"):
            reader.read(given[2])
        assert reader.read(given[1], errors="return").error == found[1].error
        one_by_one = reader.read(iter(given))
        assert next(one_by_one).text == "3"
        with pytest.raises(UserError):
            next(one_by_one)
        with pytest.raises(ValueError, match="errors is 'ignore'"):
            reader.read(given, errors="ignore")


def test_a_bad_image_takes_no_other_with_it():
    files = [png(5 + k) for k in range(6)]
    engine = Engine({files[1]: tf.errors.ResourceExhaustedError, files[4]: tf.errors.InvalidArgumentError})
    with Reader(engine, batch_size=8) as reader:
        found = reader.read(files, errors="return")
    assert texts(found) == ["5", "", "7", "8", "", "10"]
    assert "not enough memory" in found[1].error and found[4].error == "unreadable image: so it is"


def test_an_error_of_the_machine_ends_the_reading():
    engine = Engine({png(5): tf.errors.InternalError})
    with Reader(engine, batch_size=8) as reader, pytest.raises(tf.errors.InternalError):
        reader.read([png(5), png(6)], errors="return")


def test_a_closed_reader_says_so():
    engine = Engine()
    with Reader(engine) as reader:
        pass
    reader.close()
    assert engine.closed
    for given in (png(3), [png(3)]):
        with pytest.raises(ValueError, match="the reader is closed"):
            reader.read(given)


# ---- batches

def test_batches_hold_images_of_similar_width_and_results_keep_their_order():
    widths = [40, 5, 30, 6, 20, 7, 10, 8, 9]
    engine = Engine()
    with Reader(engine, batch_size=3) as reader:
        assert texts(reader.read([png(width) for width in widths])) == list(map(str, widths))
    # The first window is a batch, the second one has two.
    assert sorted(engine.batches) == [[5, 30, 40], [6, 7, 8], [9, 10, 20]]


def test_large_images_are_read_one_by_one():
    engine = Engine(max_pixels=100)
    with Reader(engine, batch_size=16) as reader:
        found = reader.read([png(width, 2) for width in (10, 10, 10, 50, 49, 51, 1)], errors="return")
    assert sorted(map(len, engine.batches)) == [1, 1, 4]
    assert texts(found) == ["10", "10", "10", "50", "49", "", "1"]
    assert found[5].error == "too many pixels: 51 x 2; the limit is --max-pixels 100"


def test_an_iterator_is_taken_in_bounded_steps():
    taken = itertools.count()
    endless = (next(taken) and png(3) or png(3) for _ in itertools.count())
    with Reader(Engine(), batch_size=2) as reader:
        results = reader.read(endless)
        assert next(results).text == "3"
        assert next(taken) < 2 * (1 + 2 + 1 + AHEAD + 1)
        for _ in range(200):
            next(results)
        assert next(taken) < 202 + 2 * (3 * WINDOW + AHEAD + 1)
        results.close()
        assert reader.read(png(4)).text == "4"


def test_threads_read_as_one_alone():
    files = [png(width) for width in range(5, 50)]
    found = {}
    with Reader(Engine(), batch_size=4) as reader:
        def run(number):
            time.sleep(0.01 * number)
            found[number] = [texts(reader.read(files)), texts(reader.read(iter(files))), [
                reader.read(file).text for file in files]]

        threads = [threading.Thread(target=run, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [found[number] for number in range(4)] == [[list(map(str, range(5, 50)))] * 3] * 4
