"""`aocr predict`: which images it reads, in which forms it tells what it read, and what goes to people."""

import csv
import io
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from aocr.cli import main
from aocr.commands.forms import FORMS
from aocr.data.records import parse_example, read_file
from aocr.errors import UserError
from aocr.prediction import Hypothesis
from aocr.reading.results import ReadResult
from aocr.tasks.paths import check_lists, image_paths, parts_of, waiting_parts

QUIET = ("--log-path", "")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Changes to a directory with images, other files, and a link that leads back."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "sub/d.tiff", "sub/deep/c.webp", "sub/.hidden/h.png", ".x.png", "notes.txt",
                 "[1].png", "@z.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    os.symlink("../sub", tmp_path / "sub" / "up")
    return tmp_path


# ---- paths

@pytest.mark.parametrize("arguments, recursive, expected", [
    (["b.png", "none.png", "notes.txt"], False, ["b.png", "none.png", "notes.txt"]),
    (["."], False, ["./@z.png", "./[1].png", "./a.JPG", "./b.png"]),
    (["sub/", "b.png"], True, ["sub/d.tiff", "sub/deep/c.webp", "b.png"]),
    (["*.png"], False, ["@z.png", "[1].png", "b.png"]),
    (["sub/d*/*.web[p]"], False, ["sub/deep/c.webp"]),
    (["[1].png", "*.gif"], False, ["[1].png", "*.gif"]),  # a name, and a pattern without matches
    (["s*"], False, ["sub/d.tiff"]),
    (["@z.png", "@list", "b.png"], False, ["@z.png", "x y.png", "*.png", "sub", "b.png"]),  # a list is taken as it is
])
def test_arguments_stand_for_images(tree, arguments, recursive, expected):
    (tree / "list").write_bytes(b"x y.png\r\n\n*.png\nsub")
    assert list(image_paths(arguments, recursive)) == expected


def test_directories_are_walked_as_their_images_are_read(tree):
    paths = image_paths(["sub"], recursive=True)
    assert next(paths) == "sub/d.tiff"
    (tree / "sub" / "deep" / "e.png").write_bytes(b"")
    assert next(paths) == "sub/deep/c.webp" and next(paths) == "sub/deep/e.png"


def test_a_directory_without_images_and_a_list_that_is_missing_are_told(tree, caplog):
    (tree / "empty" / "sub").mkdir(parents=True)
    assert list(image_paths(["empty"], recursive=False)) == []
    assert "empty: no images there; --recursive reads those below it" in caplog.text
    assert check_lists(["b.png", "@z.png", "@notes.txt"]) == ["notes.txt"]
    with pytest.raises(UserError, match="^@none: cannot be read: No such file or directory; name a file of paths"):
        check_lists(["@none"])


def test_paths_come_in_parts():
    assert list(parts_of("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(parts_of("ab", 2)) == [["a", "b"]] and list(parts_of("", 2)) == []


def test_lines_wait_in_bounded_memory():
    class Lines:
        count = 0

        def readline(self, _):
            self.count += 1
            return b"x\n"

    lines = Lines()
    parts = waiting_parts(lines, 3)
    assert set(next(parts)) == {"x"}
    time.sleep(0.2)
    assert lines.count < 30


def test_a_line_is_passed_on_before_the_next_one_comes():
    lines = queue.Queue()
    parts = waiting_parts(SimpleNamespace(readline=lambda _: lines.get()), 9)
    lines.put(b"one\n")
    assert next(parts) == ["one"]
    threading.Timer(0.05, lambda: [lines.put(line) for line in (b"tw", b"o\n", b"", b"")]).start()
    assert next(parts) == ["tw"]  # cut: longer than a line may be
    assert list(parts) == []


def test_a_full_part_is_followed_by_word_that_nothing_waits():
    lines = queue.Queue()
    parts = waiting_parts(SimpleNamespace(readline=lambda _: lines.get()), 2)
    lines.put(b"one\n")
    assert next(parts) == ["one"]
    for line in (b"two\n", b"\n", b"three\n"):
        lines.put(line)
    time.sleep(0.1)
    assert next(parts) == ["two", "three"]
    assert next(parts) == []
    lines.put(b"")
    assert list(parts) == []


def test_paths_that_end_in_nul():
    blocks = iter([b"a\nb\0", b"c", b"\xff\0\0d", b""])
    parts = waiting_parts(SimpleNamespace(read1=lambda _: next(blocks)), 9, b"\0")
    assert sum(parts, []) == ["a\nb", "c\udcff", "d"]


# ---- forms

READ = ReadResult("a\t\"b\",\n", 0.25, (), (Hypothesis("x", 0.5),), "ctc")
BROKEN = ReadResult(error="no such file")


@pytest.mark.parametrize("form, lines", [
    ("tsv", ['p,1\t0.250000\ta\\t"b",\\n']),
    ("text", ['a\t"b",\\n']),
    ("csv", ['"p,1",0.250000,"a\t""b"",\n",', '"p,1",,,no such file']),
    ("jsonl", [r'{"path": "p,1", "text": "a\t\"b\",\n", "confidence": 0.25, "characters": [], "hypotheses": '
               r'[{"text": "x", "confidence": 0.5}], "error": null}',
               '{"path": "p,1", "text": "", "confidence": 0.0, "characters": [], "hypotheses": [], '
               '"error": "no such file"}'])])
def test_forms(form, lines):
    assert [FORMS[form].line("p,1", result) for result in (READ, BROKEN)][:len(lines)] == lines
    assert FORMS[form].broken == (len(lines) == 2)


# ---- the command

@pytest.fixture
def mixed(trained, tmp_path, monkeypatch):
    """Changes to a directory with 12 images, of which two are broken: .names, .labels (None: broken)."""
    monkeypatch.chdir(tmp_path)
    names, labels = [], []
    for number in range(12):
        names.append(f"pictures/{number:02d}.png")
        label = number % len(trained.labels)
        labels.append(None if number in (3, 7) else trained.labels[label])
        os.makedirs("pictures", exist_ok=True)
        Path(names[-1]).write_bytes(b"no image" if number in (3, 7) else Path(trained.images[label]).read_bytes())
    return SimpleNamespace(names=names, labels=labels, model=("--model-dir", trained.model_dir, *QUIET))


def test_a_directory_with_broken_files(mixed, capsys):
    expected = [(name, label) for name, label in zip(mixed.names, mixed.labels) if label]
    assert main(["predict", "pictures", *mixed.model]) == 1
    out, err = capsys.readouterr()
    assert [(row[0], row[2]) for row in (line.split("\t") for line in out.splitlines())] == expected
    errors = [line.split(": ")[2] for line in err.splitlines() if ": error: " in line]
    assert errors == ["pictures/03.png", "pictures/07.png"]
    assert main(["predict", "pictures/*.png", "--output-format", "text", *mixed.model]) == 1
    assert capsys.readouterr().out.splitlines() == [label for _, label in expected]


def test_broken_files_are_records_in_csv_and_jsonl(mixed, capsys):
    assert main(["predict", ".", "--recursive", "--output-format", "csv", *mixed.model]) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["path"] for row in rows] == [f"./{name}" for name in mixed.names]
    assert [row["text"] or None for row in rows] == mixed.labels
    for row, label in zip(rows, mixed.labels):
        assert bool(row["error"]) == (label is None) == (row["confidence"] == "")
    Path("list").write_text("\n".join(mixed.names))
    assert main(["predict", "@list", "--output-format", "jsonl", *mixed.model]) == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["text"] or None for one in found] == mixed.labels
    assert [one["error"] is None for one in found] == [label is not None for label in mixed.labels]
    assert {*found[0]} == {"path", "text", "confidence", "characters", "hypotheses", "error"}


def test_a_person_corrects_a_review_and_a_dataset_takes_it(mixed, capsys):
    assert main(["predict", "pictures", "--min-confidence", "1", "--review", "unsure.tsv", *mixed.model]) == 1
    read = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    sure = {path for path, probability, _ in read if probability == "1.000000"}
    rows = [line.split("\t") for line in Path("unsure.tsv").read_text().splitlines()]
    assert rows[0] == ["path", "text", "confidence", "error"]
    assert [row[0] for row in rows[1:]] == [name for name in mixed.names if name not in sure]
    broken = [row for row in rows if row[0] == "pictures/03.png"][0]
    assert broken[1:3] == ["", ""] and "not a supported image" in broken[3]
    assert rows[1][:2] == [mixed.names[0], mixed.labels[0]]
    rows[1][1] = "fixed"
    Path("unsure.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    assert main(["dataset", "unsure.tsv", "fixed.tfrecords", "--workers", "1", *QUIET]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"records: {len(rows) - 3}\nskipped: 2\n") and err.count("skipped, unreadable image") == 2
    labels = [parse_example(record)["label"].numpy().decode() for record in read_file("fixed.tfrecords")]
    assert labels == ["FIXED", *(row[1] for row in rows[2:] if not row[3])]


def test_a_review_holds_what_is_below_the_confidence(mixed, capsys):
    assert main(["predict", "pictures", "--min-confidence", "0", "--review", "unsure.csv", *mixed.model]) == 1
    rows = list(csv.DictReader(Path("unsure.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == ["pictures/03.png", "pictures/07.png"]
    # It may be replaced, other files may not.
    assert main(["predict", "none.png", "--min-confidence", "0", "--review", "unsure.csv", *mixed.model]) == 1
    assert Path("unsure.csv").read_text() == "path,text,confidence,error\nnone.png,,,no such file\n"
    Path("other.csv").write_text("path,label\n")
    capsys.readouterr()
    assert main(["predict", "none.png", "--min-confidence", "0", "--review", "other.csv", *mixed.model]) == 1
    assert "--review other.csv: exists and is not a list of images to review" in capsys.readouterr().err


def test_pictures_show_where_the_model_looked(mixed, capsys):
    assert main(["predict", "pictures", "--visualize", "looked", *mixed.model]) == 1
    assert sorted(os.listdir("looked")) == sorted(f"{k}-{k:02d}.png" for k in range(12) if k not in (3, 7))
    with Image.open("looked/0-00.png/attention.png") as picture:
        assert picture.width > 300
    assert Path("looked/0-00.png/word.txt").read_text() == mixed.labels[0] + "\n"


@pytest.mark.parametrize("flags, problem", [
    (["--stdin0", "x.png"], "--stdin0 reads paths from stdin, but paths are given as arguments; remove one of them"),
    (["--review", "x.tsv", "x.png"], "--min-confidence and --review go together; give both"),
    (["--min-confidence", "0.5", "x.png"], "--min-confidence and --review go together; give both"),
    (["--review", "x.txt", "--min-confidence", "1", "x.png"], "--review x.txt: name a file with the extension .tsv or"),
    (["--visualize", "gs://a/b", "x.png"], "--visualize gs://a/b: remote storage cannot hold pictures")])
def test_options_that_do_not_go_together(flags, problem, capsys):
    assert main(["predict", *flags, *QUIET]) == 2
    assert problem in capsys.readouterr().err


def test_each_path_on_stdin_is_answered_before_the_next_one_comes(mixed, trained):
    """Paths end in NUL; the header comes first."""
    command = [sys.executable, "-m", "aocr", "predict", "--stdin0", "--output-format", "csv", *mixed.model]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout.readline() == b"path,confidence,text,error\n"
        for name, label in list(zip(mixed.names, mixed.labels))[:3]:
            running.stdin.write(name.encode() + b"\0")
            running.stdin.flush()
            assert running.stdout.readline().decode().split(",")[2] == label
        running.stdin.close()
        assert running.wait() == 0
