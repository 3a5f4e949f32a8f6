"""Fuzz tests: on corrupt input, readers return a result or raise a documented error, in bounded time and memory.

Examples are few and deterministic, so that a run takes half a minute; AOCR_FUZZ multiplies their numbers.
"""

import contextlib
import dataclasses
import io
import json
import os
import re
import resource
import signal
import struct
import zlib

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from aocr.augment.recipes import Recipe, read_recipe
from aocr.charset import Charset
from aocr.checkpoint import Description
from aocr.config import DatasetConfig, ModelConfig
from aocr.data.checks import check, clean_label
from aocr.data.formats import format_of, read_rows
from aocr.data.records import to_example
from aocr.data.rows import BadRow, Rejected, Row
from aocr.data.scanning import read_sidecar, scan, write_sidecar
from aocr.errors import UserError
from aocr.evaluation.curves import KINDS, read_history
from aocr.image_files import BadImage, standard_image
from aocr.images import decode_image
from aocr.synth.patterns import LONGEST_WORD, PatternError, parse_pattern

TIMES = float(os.environ.get("AOCR_FUZZ", 1))
SECONDS = 20  # time limit of an example, for a busy machine
MEGABYTES = 300 * max(1, TIMES)  # growth limit of the process, including the examples that hypothesis keeps
NAMES = re.compile(r"(.*?)(?:_[0-9]+)?")
CONFIG = DatasetConfig(workers=1, max_pixels=100_000)


def examples(count):
    return settings(max_examples=int(count * TIMES), derandomize=True, deadline=None, database=None,
                    suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module", autouse=True)
def small():
    """Checks that memory stays bounded over all of these tests."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES * 1024


@contextlib.contextmanager
def soon():
    """Raises TimeoutError if the block hangs."""
    def late(*_):
        raise TimeoutError(f"longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def one_line(error):
    return str(error) and "\n" not in str(error)


# ---- annotations

PIECES = [b"path", b"label", b"a.png", b"\t", b",", b'"', b'""', b"\n", b"\r", b" ", b"{", b"}", b'"image":', b"[",
          b"\xff", b"\x00", b"\xef\xbb\xbf", "\u2028".encode(), b"\\u", b"\\ud800", b"1e999", b"[" * 3000, b"9" * 5000,
          b"x" * 140_000, b'\n{"image": "a", "label": "b"}\n', b'"label": "', b"://", b"\x85"]
annotations = st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=25).map(b"".join)


@pytest.mark.parametrize("input_format", ["lines", "tsv", "csv", "jsonl"])
@examples(200)
@given(content=annotations)
def test_annotations(input_format, content):
    try:
        with soon():
            rows = list(read_rows("-", input_format, NAMES, io.BytesIO(content)))
    except UserError as error:
        assert one_line(error) and str(error).startswith("-:"), "the whole input is of no use"
        return
    numbers, ends = [row.number for row in rows], content.count(b"\n") + content.count(b"\r")
    assert numbers == sorted(set(numbers)) and all(0 < number <= ends + 1 for number in numbers)
    for row in rows:
        assert row.path if isinstance(row, Row) else row.kind and one_line(row.reason)
    assert b"".join(row.raw for row in rows).replace(b"\n", b"") in content.replace(b"\n", b"") or len(rows) > 1 or (
        b"\0" in content or content[:2] in (b"\xff\xfe", b"\xfe\xff") or input_format == "jsonl")


names = st.binary(min_size=1, max_size=12).map(lambda name: re.sub(rb"^\.|[\0/\n]", b"_", name))


@pytest.mark.parametrize("input_format", ["folder", "names"])
@examples(60)
@given(files=st.dictionaries(names, st.binary(max_size=9), max_size=5), pattern=st.sampled_from([
    r"(.*?)(?:_[0-9]+)?", r"(a)|.*", r"()", r"(?s)(.*)", r"x(.)"]))
def test_folders(input_format, files, pattern, tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    for name, label in files.items():
        for extension, content in ((b".png", b""), (b".txt", label)):
            with open(os.path.join(os.fsencode(folder), name + extension), "wb") as file:
                file.write(content)
    with soon():
        rows = list(read_rows(str(folder), input_format, re.compile(pattern), None))
        for checked in (check(row, CONFIG) for row in rows):
            assert isinstance(checked, Rejected) and one_line(checked.reason), "the images are empty"
    assert len(rows) == len(files)
    for row in rows:
        assert row.raw.startswith(os.fsencode(folder))
        assert not isinstance(row, Row) or row.label.encode() is not None


@examples(200)
@given(path=st.text(max_size=8) | st.sampled_from(["x://y", "gs:\0//", "\ud800", "\udcff", "a\0", "."]),
       source=st.sampled_from(["-", "list", "x://y/list"]))
def test_paths_in_rows(path, source):
    with soon():
        rejected = check(Row(source, 1, b"", "A", path or "."), CONFIG)
    assert isinstance(rejected, Rejected) and rejected.kind in ("missing image", "unreadable image")


@examples(300)
@given(label=st.text(st.characters(), max_size=20), form=st.sampled_from(["none", "NFC", "NFKC"]),
       upper=st.booleans())
def test_labels(label, form, upper):
    config = DatasetConfig(normalize=form, force_uppercase=upper)
    try:
        clean, notes = clean_label(label, config)
    except BadRow as error:
        assert len(error.args) == 2 and "\n" not in error.args[1]
        return
    assert clean.encode() is not None and "\n" not in clean
    assert all("\n" not in text for _, text in notes)
    again, notes = clean_label(clean, config)
    assert again == clean, "clean labels are unchanged"
    assert {kind for kind, _ in notes} <= {"invisible character"}


# ---- images

def picture_files():
    """Returns image files by name."""
    random = np.random.RandomState(1)
    image = Image.fromarray(random.randint(0, 256, (9, 14, 3), np.uint8), "RGB").resize((28, 18))
    exif = Image.Exif()
    exif[0x0112] = 6
    grey16 = Image.fromarray(np.linspace(0, 65535, 28 * 18).reshape(18, 28).astype(np.uint16))
    made = {}
    for name, (picture, options) in {
        "PNG rgb": (image, {}), "PNG palette": (image.quantize(8), dict(transparency=3)), "PNG 16 bit": (grey16, {}),
        "PNG rgba, with texts": (image.convert("RGBA"), dict(exif=exif, dpi=(72, 72))), "PNG 1 bit":
        (image.convert("1"), {}), "JPEG": (image, dict(exif=exif)), "JPEG progressive": (image, dict(progressive=True)),
        "JPEG cmyk": (image.convert("CMYK"), {}), "GIF": (image.quantize(8), dict(transparency=3)),
        "GIF animated": (image.quantize(8), dict(save_all=True, append_images=[image.rotate(90).quantize(8)])),
        "BMP": (image, {}), "BMP palette": (image.quantize(8), {}), "WEBP": (image, dict(exif=exif)),
        "WEBP lossless": (image.convert("RGBA"), dict(lossless=True)),
        "WEBP animated": (image, dict(save_all=True, append_images=[image.rotate(90)])),
        "TIFF": (image, dict(exif=exif)), "TIFF lzw": (image, dict(compression="tiff_lzw")),
        "TIFF group4": (image.convert("1"), dict(compression="group4")), "TIFF jpeg": (image, dict(compression="jpeg")),
        "TIFF 16 bit": (grey16, {}),
    }.items():
        file = io.BytesIO()
        picture.save(file, name.split()[0], **options)
        made[name] = file.getvalue()
    return made


PICTURES = picture_files()


def mended_png(content):
    """Fixes the checksum of each complete chunk of a PNG, so that decoders get past it to the content."""
    mended, at = bytearray(content), 8
    while at + 12 <= len(content):
        length, = struct.unpack_from(">I", content, at)
        if at + 12 + length > len(content):
            break
        struct.pack_into(">I", mended, at + 8 + length, zlib.crc32(content[at + 4:at + 8 + length]))
        at += 12 + length
    return bytes(mended)


@st.composite
def damaged(draw, files):
    """One of `files` with a few edits: truncated, bits flipped, header words set, bytes inserted and deleted."""
    content = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["turn", "turn", "head", "head", "cut", "put in", "take away", "zeros", "double"]))
        at = draw(st.integers(0, len(content)))
        if kind == "turn" and at < len(content):
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "head":
            word = struct.pack(draw(st.sampled_from("<>")) + draw(st.sampled_from("HIQ")), draw(st.sampled_from(
                [0, 1, 2, 7, 255, 256, 4095, 32767, 65535])))
            at = draw(st.integers(0, min(len(content), 120)))
            content[at:at + len(word)] = word if draw(st.booleans()) else b"\xff" * len(word)
        elif kind == "cut":
            del content[at:]
        elif kind == "put in":
            content[at:at] = draw(st.binary(max_size=8))
        elif kind == "take away":
            del content[at:at + draw(st.integers(1, 8))]
        elif kind == "zeros":
            content[at:at + 12] = bytes(12)
        elif kind == "double":
            content[at:at] = content[at:at + 40]
    return bytes(content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
@examples(300)
@given(data=st.data())
def test_images(kind, data):
    content = data.draw(damaged([file for name, file in PICTURES.items() if name.startswith(kind)]))
    if kind == "PNG" and data.draw(st.booleans()):
        content = mended_png(content)
    with soon():
        try:
            stored, size, told, _ = standard_image(content, CONFIG)
        except BadImage as error:
            kind, reason = error.args
            assert kind in ("unreadable image", "too many pixels") and reason and "\n" not in reason
            return
        assert told and 0 < size[0] * size[1] <= CONFIG.max_pixels
        with contextlib.suppress(tf.errors.InvalidArgumentError):  # `checked_rows` rejects these in its decoding stage
            assert decode_image(stored, CONFIG.max_pixels).shape[:2] == size[::-1]


def test_images_that_are_whole_are_read():
    """Sanity check of the files that are damaged above."""
    for name, file in PICTURES.items():
        if name != "WEBP animated":
            assert standard_image(file, CONFIG)[1] in ((28, 18), (18, 28)), name


# ---- JSON

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
    | st.sampled_from(["\ud800", "\n", 10**400, -1, 2**63]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=6)
no_json = st.binary(max_size=30) | st.sampled_from(
    [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"\xff", b"", b"null", b"\xef\xbb\xbf{}", b"\xff\xfe{\0}\0"])


@st.composite
def changed(draw, values):
    """JSON text of `values` with items replaced, removed or added at any depth."""
    values = json.loads(json.dumps(values))
    for _ in range(draw(st.integers(1, 3))):
        place = values
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            key = draw(st.sampled_from([*keys, None]))
            inner = place[key] if key is not None else None
            if not isinstance(inner, (dict, list)) or not inner or draw(st.booleans()):
                break
            place = inner
        if key is None and isinstance(place, dict):
            place[draw(st.text(max_size=3))] = draw(json_values)
        elif key is None:
            place.append(draw(json_values))
        elif draw(st.integers(0, 3)):
            place[key] = draw(json_values)
        else:
            del place[key]
    return json.dumps(values).encode()


@examples(400)
@given(content=changed(json.loads(Description(ModelConfig(), Charset("AÄ")).to_json())) | no_json)
def test_descriptions(content):
    with soon():
        try:
            found = Description.from_json(content, "model.json")
        except UserError as error:
            assert str(error).startswith("model.json: ") and one_line(error)
            return
    assert all(type(getattr(found.config, field.name)) is field.type for field in dataclasses.fields(ModelConfig))
    assert found.config.canvas_width > 0 and len(found.charset) > 3
    assert Description.from_json(found.to_json().encode(), "again") == found


@examples(400)
@given(content=changed(dataclasses.asdict(Recipe(rotation=3, jpeg=50))) | no_json)
def test_recipes(content):
    with soon():
        try:
            recipe = read_recipe(content, "mine.json")
        except UserError as error:
            assert str(error).startswith("mine.json: ") and one_line(error)
            return
    assert all(np.isfinite(value) for value in dataclasses.astuple(recipe)) and str(recipe)


def png(width, height):
    file = io.BytesIO()
    Image.new("L", (width, height), 90).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Returns (path of a dataset of three records, values of its sidecar)."""
    path = str(tmp_path_factory.mktemp("fuzz") / "data.tfrecords")
    with tf.io.TFRecordWriter(path) as writer:
        for width, label in ((5, "AB"), (9, ""), (5, "ÄB")):
            writer.write(to_example(png(width, 7), label).SerializeToString())
    write_sidecar(scan(path), path)
    with open(path + ".json", "rb") as file:
        return path, json.loads(file.read())


@examples(300)
@given(data=st.data())
def test_sidecars(dataset, data):
    path, values = dataset
    with open(path + ".json", "wb") as file:
        file.write(data.draw(changed(values) | no_json))
    with soon():
        found = read_sidecar(path)
    if found:
        assert found.records == found.usable == sum(found.widths.values())
        assert found.widest_image >= 0 and found.longest_label >= 0 and found.wider_than(86) <= found.records
        assert "".join(found.characters).encode() is not None
        assert all(0 <= seen.record < found.records for seen in found.lengths.values())


@examples(300)
@given(content=st.lists(changed(dict(kind="train", step=10, loss=1.0)) | no_json
                        | st.binary(max_size=5) | st.builds(
    lambda kind, step: json.dumps(dict(kind=kind, step=step, cer=0.5)).encode(), st.sampled_from(list(KINDS)),
    st.integers(0, 9)), max_size=8).map(b"\n".join))
def test_histories(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "history.jsonl"
    path.write_bytes(content)
    with soon():
        for series in read_history(str(path)).values():
            assert series["step"] == sorted(set(series["step"]))
            assert all(len(values) == len(series["step"]) for values in series.values())


# ---- patterns

pattern_pieces = st.sampled_from(["A", "b", "[A-Z]", "[", "]", "-", "^", "(", ")", "|", "?", "{2}", "{0}", "{0,3}", "{",
                                  "}", ",", "{999999999}", "{1000}", "\\", "\\[", " ", "[ ]", "()", "(|)", "\0",
                                  "\ud800", "[\0-\U0010ffff]", "[一-龥]", "²", "(" * 60, "A|" * 300])


@examples(400)
@given(text=st.lists(pattern_pieces | st.text(max_size=2), max_size=14).map("".join))
def test_patterns(text):
    with soon():
        try:
            pattern = parse_pattern(text)
        except PatternError as error:
            assert one_line(error)
            return
        word = pattern.draw(np.random.default_rng(0))
    assert 0 < len(word) <= pattern.most <= LONGEST_WORD and set(word) <= pattern.alphabet
    assert len(word) >= pattern.least > 0


# ---- datasets

@st.composite
def broken_datasets(draw, whole):
    """Bytes of a damaged TFRecord file, or damaged records for an intact file."""
    kind = draw(st.sampled_from(["file", "record", "noise"]))
    if kind == "file":
        return draw(damaged([whole, zlib.compress(whole, wbits=31)]))
    records = [example.SerializeToString() for example in (to_example(png(5, 7), "A"),
                                                           to_example(b"no image", "\u0416", "c"))]
    return [draw(damaged(records) if kind == "record" else st.binary(max_size=40))
            for _ in range(draw(st.integers(0, 3)))] + [records[0]]


@examples(40)
@given(data=st.data())
def test_datasets(dataset, data, tmp_path_factory):
    with open(dataset[0], "rb") as file:
        content = data.draw(broken_datasets(file.read()))
    path = str(tmp_path_factory.getbasetemp() / "damaged.tfrecords")
    if isinstance(content, bytes):
        with open(path, "wb") as file:
            file.write(content)
    else:
        with tf.io.TFRecordWriter(path) as writer:
            for record in content:
                writer.write(record)
    with soon():
        found = None
        try:
            found = scan(path)
            assert 0 < found.usable <= found.records
        except UserError as error:
            assert path in str(error) and one_line(error)
        try:
            rows = list(read_rows(path, format_of(path, "auto"), NAMES, None))
            assert not found or len(rows) == found.records
            assert all(isinstance(row, (Row, Rejected)) for row in rows)
        except UserError as error:
            assert path in str(error) and one_line(error) and not found
