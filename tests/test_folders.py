"""What directories are taken for: every file is used, rejected or counted."""

import logging
import os
import re

import pytest

from aocr.config import DatasetConfig
from aocr.data.formats import format_of, read_rows
from aocr.data.rows import Row
from aocr.errors import UserError

PATTERN = re.compile(DatasetConfig.label_pattern)


@pytest.fixture
def made(tmp_path, caplog):
    """Returns a function that makes files in a directory, from a dict of contents or names of empty files, and reads
    it: (format, {path: label}, [kind of rejected rows], {kinds of notes}, last log message)."""
    caplog.set_level(logging.INFO)

    def make(files, input_format="auto", pattern=PATTERN):
        for name, content in files.items() if isinstance(files, dict) else [(name, b"") for name in files]:
            os.makedirs(os.path.dirname(tmp_path / name), exist_ok=True)
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        found = format_of(str(tmp_path), input_format)
        rows = list(read_rows(str(tmp_path), found, pattern, None))
        labels = {os.path.relpath(row.path, tmp_path): row.label for row in rows if isinstance(row, Row)}
        assert len(labels) == sum(isinstance(row, Row) for row in rows)
        return (found, labels, [row.kind for row in rows if not isinstance(row, Row)],
                {kind for row in rows if isinstance(row, Row) for kind, _ in row.notes},
                caplog.messages[-1].removeprefix(f"{tmp_path}: "))

    return make


def test_pictures_of_one_line_share_its_label(made):
    files = {f"{name}.png": b"" for name in ("1.bin", "1.nrm", "2.raw", "plain", "3.v2", "3")}
    files |= {"1.gt.txt": "ONE", "2.txt": "TWO", "plain.gt.txt": "PLAIN", "3.gt.txt": "THREE", "3.txt": "read as THREE"}
    assert made(files) == ("folder", {"1.bin.png": "ONE", "1.nrm.png": "ONE", "2.raw.png": "TWO", "plain.png": "PLAIN",
                                      "3.png": "THREE"}, ["no label file"], set(),
                           "5 images with label files beside them; ignored: 1 .txt")


def test_upper_case_extensions_and_other_unicode_forms(made):
    files = {"A.PNG": b"", "A.TXT": "a", "B.Tif": b"", "B.GT.TXT": "b", "u\u0308.jpg": b"", "\xfc.txt": "c",
             "UTF-16.png": b"", "UTF-16.txt": "d\r\n".encode("utf-16")}
    assert made(files)[1] == {"A.PNG": "a", "B.Tif": "b", "u\u0308.jpg": "c", "UTF-16.png": "d"}


def test_every_file_is_used_rejected_or_counted(made, tmp_path):
    files = {"a.png": b"", "a.txt": "A", "b.png": b"", "b.txt": b"\x89PNG", "c.gt.txt": "no image", "d.txt": "no image",
             "e.heic": b"", "readme.txt": "text", "LICENSE.txt": "text", "notes.md": "text", "no-extension": "",
             ".DS_Store": "", "Thumbs.db": "", "._a.png": "", ".git/a.png": b"", "__MACOSX/a.png": b"", "x.json": "{}"}
    os.mkfifo(tmp_path / "pipe.png")
    kind, labels, rejected, _, told = made(files)
    assert (kind, labels) == ("folder", {"a.png": "A"})
    assert sorted(rejected) == ["label file without image", "label file without image", "unreadable image",
                                "unreadable label file"]
    counted = dict(part.split(" ", 1)[::-1] for part in told.split("ignored: ")[1].split(", "))
    assert counted == {"hidden": "3", "hidden directories": "2", ".txt": "2", ".md": "1", ".json": "1",
                       "without extension": "1", "neither files nor directories": "1"}


@pytest.mark.parametrize("name, content", [
    ("labels.csv", "filename,words\n1.png,Tel\nsub/2.png,129, Rey\n"),
    ("any.tsv", "1.png\tTel\nsub/2.png\t129, Rey\n"),
    ("metadata.jsonl", '{"file_name": "1.png", "text": "Tel"}\n{"file_name": "sub/2.png", "text": "129, Rey"}\n'),
    ("labels.json", '{\n"1.png": "Tel",\n"sub/2.png": "129, Rey"}'),
    ("gt.txt", '1.png, "Tel"\nsub/2.png, "129, Rey"\n'),
    ("some list.txt", "1.png Tel\nsub/2.png 129, Rey\n"),
    ("annotations.csv", "label;path\nTel;1.png\n129, Rey;sub/2.png\n"),
])
def test_lists_in_a_directory_are_read(made, name, content):
    files = {"1.png": b"", "sub/2.png": b"", "3.png": b"", name: content, "readme.txt": "what this is\n1.png is good\n"}
    assert made(files) == ("listed", {"1.png": "Tel", "sub/2.png": "129, Rey"}, ["image in no list"], set(),
                           "2 rows of lists for 3 images; ignored: 1 .txt")


def test_lists_of_images_elsewhere(made):
    assert made({"labels.json": '{"1.png": "A"}', "images/1.png": b"", "train/metadata.csv":
                 "file_name,text\n2.png,C\n", "train/2.png": b""})[:3] == (
        "listed", {"images/1.png": "A", "train/2.png": "C"}, [])


def test_files_that_list_no_image_do_not_change_what_a_directory_is(made, caplog):
    files = {"HELLO.png": b"", "WORLD_2.png": b"", "stats.csv": "epoch,loss\n1,2\n", "x.json": '{"version": "1"}',
             "source.txt": "from the web\nand more", "labels.txt": "cat\ndog"}
    kind, labels, rejected, notes, told = made(files)
    assert (kind, labels, rejected, notes) == ("names", {"HELLO.png": "HELLO", "WORLD_2.png": "WORLD"}, [], set())
    assert told == "2 images with labels in their names; ignored: 2 .txt, 1 .csv, 1 .json"
    assert any("labels.txt: does not list images" in message for message in caplog.messages)


@pytest.mark.parametrize("files, told", [
    ({"1.png": b"", "1.txt": "A", "labels.csv": "path,label\n1.png,A\n"}, "1 images have label files beside them"),
    ({"1.png": b"", "labels.csv": "path,label\n1.png,A\n", "labels.tsv": "1.png\tA\n"}, "list the same images"),
    ({"img/1.png": b"", "gt/1.txt": "A"}, "'1'; put the label files beside the images"),
    ({"1.png": b"", "labels.json": '{"1.png": "A"'}, "labels.json: should list images with labels by its name"),
    ({"1.png": b"", "annotations.csv": "id,label\n1,A\n"}, "its paths are not those of images"),
    ({"1.png": b"", "annotations.json": '{"images": [{"id": 1}]}'}, "none of the keys"),
])
def test_ambiguous_directories(made, files, told):
    with pytest.raises(UserError, match=re.escape(told)):
        made(files)
    if "labels.tsv" not in files:
        assert made({}, "names")[1], "naming the format decides"


@pytest.mark.parametrize("names, doubt", [
    (["A/img000.png", "A/img001.png"], "numbered name as the label"),
    (["word_1.png", "word_2.png"], "numbered name as the label"),
    (["0001.png", "0002.png", "0003.png"], "numbered name as the label"),
    (["A/x7f.png", "B/k2.png"], "name in a class folder as the label"),
    (["k7x2_485ba3079c04033d0197aeee35fc6bb7.png"], "hash in the label"),
    (["123e4567-e89b-12d3-a456-426614174000.png"], "hash in the label"),
    (["7X3K (2).png"], "mark of a copy in the label"), (["7X3K - Copy.png"], "mark of a copy in the label"),
    (["7X3K - Kopie (3).png"], "mark of a copy in the label"), (["Copy of 7X3K.png"], "mark of a copy in the label"),
    (["7X3K.png", "88AB_3.png", "page_2.png", "1234.png", "A/ALPHA.png", "copy.png", "DEADBEEF.png"], None),
])
def test_names_that_are_hardly_labels_are_noted(made, names, doubt):
    assert made(names)[3] == ({doubt} if doubt else set())


def test_a_label_pattern_of_choice_removes_the_doubt(made):
    found = made(["k7x2_485ba3079c04033d0197aeee35fc6bb7.png", "word_1.png"], pattern=re.compile("(.*)_[0-9a-f]+"))
    assert found[1:4] == ({"k7x2_485ba3079c04033d0197aeee35fc6bb7.png": "k7x2", "word_1.png": "word"}, [], set())


def test_images_of_all_that_pillow_reads(made):
    from PIL import Image

    from aocr.data.listing import IMAGE_EXTENSIONS

    names = [f"A{ending}" for ending in (".jp2", ".tga", ".ppm", ".pgm", ".pbm", ".webp", ".jfif", ".jpe", ".dib")]
    assert set(made(names)[1]) == set(names)
    Image.init()
    known = {*Image.registered_extensions(), ".avif"}  # AVIF depends on how Pillow was built
    assert known.issuperset(IMAGE_EXTENSIONS)


def test_directories_that_cannot_be_read_are_an_error(made, tmp_path, monkeypatch):
    made(["below/A.png"])

    def refuse(path, scandir=os.scandir):
        if str(path).endswith("below"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match="below: cannot be read: Permission denied"):
        made([])


def test_links_are_followed_once(made, tmp_path):
    made(["deep/A.png"])
    os.symlink(tmp_path, tmp_path / "deep/loop")
    os.symlink(tmp_path / "deep", tmp_path / "twice")
    os.symlink("nowhere", tmp_path / "deep/C.txt")
    os.symlink("itself", tmp_path / "itself")
    (tmp_path / "apart").mkdir()
    os.symlink(tmp_path / "deep/A.png", tmp_path / "apart/B.png")
    assert made([])[1] == {"apart/B.png": "B", "deep/A.png": "A"}
