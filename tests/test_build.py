"""Dataset builds: used rows, reported rows, and when the output appears."""

import glob
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from aocr.cli import main
from aocr.data import build, scanning
from aocr.data.scanning import Seen, scan
from aocr.data.workers import checked_rows


def read_dataset(path):
    """Returns [(image bytes, label, comment or None)] of a dataset."""
    rows = []
    for serialized in tf.data.TFRecordDataset(path):
        features = tf.train.Example.FromString(serialized.numpy()).features.feature
        comment = features["comment"].bytes_list.value[0].decode() if "comment" in features else None
        rows.append((features["image"].bytes_list.value[0], features["label"].bytes_list.value[0].decode(), comment))
    return rows


@pytest.fixture
def image(tmp_path, monkeypatch):
    """Changes to tmp_path, with an image a.png, and returns its bytes."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.arange(77, dtype=np.uint8).reshape(7, 11)).save("a.png")
    return (tmp_path / "a.png").read_bytes()


def test_labels_are_upper_cased_unless_told(image):
    with open("list", "w", encoding="utf-8") as file:
        file.write("a.png abc Жё\n")
    assert main(["dataset", "list", "one", "--log-path", ""]) == 0
    assert main(["dataset", "list", "two", "--no-force-uppercase", "--save-filename", "--log-path", ""]) == 0
    assert read_dataset("one") == [(image, "ABC ЖЁ", None)]
    assert read_dataset("two") == [(image, "abc Жё", "a.png")]


def test_every_bad_line_is_reported_with_its_number_and_counted(image, capsys):
    with open("cut.png", "wb") as file:
        file.write(image[:len(image) // 2])
    with open("text.png", "wb") as file:
        file.write(b"this is text")
    open("empty.png", "wb").close()
    os.mkdir("folder.png")
    Image.new("F", (5, 3)).save("b.tiff")
    lines = [b"\xef\xbb\xbfa.png FIRST", b"a.png", b"", b"none.png X", b"cut.png X", b"text.png X", b"empty.png X",
             b"folder.png X", b"b.tiff X", b"a.png \xff", b"a.png LAST\r"]
    with open("list", "wb") as file:
        file.write(b"\n".join(lines))
    assert main(["dataset", "list", "out", "--log-path", ""]) == 0
    captured = capsys.readouterr()
    assert [label for _, label, _ in read_dataset("out")] == ["FIRST", "LAST"]
    assert captured.out == "records: 2\nskipped: 8\ndataset: out\n"
    warnings = [line for line in captured.err.splitlines() if "skipped, " in line and "warning" in line]
    assert "list:11: duplicate image with a different label: same image as list:1; fix the wrong label" in captured.err
    reasons = {2: "no label field", 4: "missing image", 5: "unreadable image", 6: "unreadable image",
               7: "empty file", 8: "unreadable image", 9: "unreadable image", 10: "not UTF-8"}
    assert len(warnings) == len(reasons)
    for line, (number, reason) in zip(warnings, reasons.items()):
        assert f"list:{number}: " in line and reason in line
    assert "Traceback" not in captured.err


def test_nothing_left_is_an_error_without_output(image, capsys):
    with open("list", "w") as file:
        file.write("none.png X\n")
    assert main(["dataset", "list", "out", "--log-path", ""]) == 1
    assert "no usable rows (1 skipped, 1 missing image)" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["a.png", "list"]


def test_an_earlier_dataset_stays_until_the_new_one_is_complete(image, monkeypatch):
    with open("list", "w") as file:
        file.write("a.png OLD\n")
    assert main(["dataset", "list", "out", "--log-path", ""]) == 0
    with open("list", "w") as file:
        file.write("a.png NEW\na.png NEWER\n")

    def interrupted(rows, config):
        yield next(checked_rows(rows, config))
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "checked_rows", interrupted)
    assert main(["dataset", "list", "out", "--log-path", ""]) == 130
    assert [label for _, label, _ in read_dataset("out")] == ["OLD"]
    assert sorted(os.listdir()) == ["a.png", "list", "out", "out.json"]


@pytest.mark.parametrize("arguments, told", [
    (["none.txt", "out"], "none.txt: cannot be read"),
    (["none*.txt", "out"], "none*.txt: cannot be read"),
    (["list", "a.png"], "a.png: exists and is not a dataset"),
    (["list", "out", "--rejects", "no/such/folder"], "no/such/folder"),
    (["list", "out", "--split", "0.5/0.6"], "--split is 0.5/0.6"),
    (["list", "out", "--label-pattern", "x("], "--label-pattern x("),
    (["list", "out", "--label-pattern", "x"], "has no group"),
    (["list", "out", "--background", "reddish"], "--background is reddish"),
    (["list", "no/such/folder/out"], "no/such/folder/out: cannot be written"),
])
def test_paths_that_do_not_work(image, arguments, told, capsys):
    with open("list", "w") as file:
        file.write("a.png X\n")
    assert main(["dataset", *arguments, "--log-path", ""]) in (1, 2)
    error = capsys.readouterr().err
    assert told in error and len(error.splitlines()) == 1


def labels_of(pattern):
    """Returns the labels of a dataset, file by file."""
    return [label for file in sorted(glob.glob(pattern)) for _, label, _ in read_dataset(file)]


def make(*arguments):
    """Runs `aocr dataset` and returns its exit code."""
    return main(["dataset", *arguments, "--log-path", "", "--no-force-uppercase"])


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Changes to tmp_path, with distinct images 0.png to 199.png, and returns a list of (path, label)."""
    monkeypatch.chdir(tmp_path)
    rows = []
    for number in range(200):
        Image.fromarray(np.full((7, 5 + number % 9), number, np.uint8)).save(f"{number}.png")
        rows.append((f"{number}.png", f"w{number % 50}"))
    with open("list.tsv", "w") as file:
        file.writelines(f"{path}\t{label}\n" for path, label in rows)
    return rows


def test_workers_write_what_one_process_writes(images):
    assert make("list.tsv", "one", "--workers", "1") == make("list.tsv", "three", "--workers", "3") == 0
    with open("one", "rb") as one, open("three", "rb") as three:
        assert one.read() == three.read()
    assert labels_of("one") == [label for _, label in images]


def test_shards_and_compression(images, capsys):
    assert make("list.tsv", "data.tfrecords", "--shards", "3", "--compression", "gzip", "--workers", "1") == 0
    assert "dataset: data-*-of-00003.tfrecords\n" in capsys.readouterr().out
    files = sorted(glob.glob("data-*.tfrecords"))
    assert files == [f"data-0000{k}-of-00003.tfrecords" for k in range(3)]
    labels = [tf.train.Example.FromString(record.numpy()).features.feature["label"].bytes_list.value[0].decode()
              for file in files for record in tf.data.TFRecordDataset(file, "GZIP")]
    assert labels == [label for start in range(3) for _, label in images[start::3]]
    found = scan("data-*.tfrecords")
    assert (found.records, found.starts) == (200, [0, 67, 134])


def test_a_split_is_the_same_in_every_order(images):
    assert make("list.tsv", "data.tfrecords", "--split", "0.7/0.1/0.2", "--workers", "1") == 0
    with open("back.tsv", "w") as file:
        file.writelines(f"{path}\t{label}\n" for path, label in reversed(images))
    assert make("back.tsv", "back.tfrecords", "--split", "0.7/0.1/0.2", "--workers", "1") == 0
    sizes = []
    for name in ("train", "validation", "test"):
        rows = sorted(read_dataset(f"data-{name}.tfrecords"))
        assert rows == sorted(read_dataset(f"back-{name}.tfrecords"))
        sizes.append(len(rows))
    assert sum(sizes) == 200 and 120 <= sizes[0] <= 160 and 5 <= sizes[1] <= 40


def test_a_split_by_label_keeps_equal_labels_together(images):
    assert make("list.tsv", "data.tfrecords", "--split", "0.5/0.5", "--split-by", "label", "--workers", "1") == 0
    train, test = set(labels_of("data-train.tfrecords")), set(labels_of("data-test.tfrecords"))
    assert train and test and not train & test


def test_a_sidecar_saves_the_look_through(images, monkeypatch):
    assert make("list.tsv", "data.tfrecords", "--workers", "1") == 0
    told = scan("data.tfrecords")
    monkeypatch.setattr(scanning, "_scan_file", None)
    assert scan("data.tfrecords") == told


def test_a_sidecar_tells_what_a_look_through_finds(images):
    assert make("list.tsv", "data.tfrecords", "--workers", "1") == 0
    told = scan("data.tfrecords")
    os.remove("data.tfrecords.json")
    assert scan("data.tfrecords") == told
    assert (told.usable, told.lengths[2], told.lengths[3].count) == (200, Seen(40, 0, "w0"), 160)


def test_with_graphemes_a_sidecar_saves_the_images_and_labels_are_counted_anew(images, monkeypatch):
    with open("marks.tsv", "w", encoding="utf-8") as file:
        file.write("0.png\te\u0323\u0301\n1.png\tab\n2.png\te\u0323\u0301a\n3.png\tc\n4.png\te\u0301\u0323\n")
    arguments = ["marks.tsv", "data.tfrecords", "--normalize", "none", "--shards", "2", "--workers", "1"]
    assert make(*arguments) == 0
    assert max(scan("data-*.tfrecords").lengths) == 4
    with monkeypatch.context() as without_look:
        without_look.setattr(scanning, "_scan_file", None)
        found = scan("data-*.tfrecords", graphemes=True)
    assert found.records == 5 and found.lengths == {1: Seen(3, 0, "e\u0323\u0301"), 2: Seen(2, 1, "e\u0323\u0301a")}
    for file in glob.glob("*.json"):
        os.remove(file)
    assert scan("data-*.tfrecords", graphemes=True) == found


def test_a_sidecar_of_another_file_is_not_believed(images, caplog):
    assert make("list.tsv", "data.tfrecords", "--workers", "1") == 0
    with open("few.tsv", "w") as file:
        file.write("0.png\tother\n")
    assert make("few.tsv", "few.tfrecords", "--workers", "1") == 0
    os.replace("few.tfrecords", "data.tfrecords")
    assert scan("data.tfrecords").records == 1
    with open("data.tfrecords.json", "w") as file:
        file.write('{"version": 1')
    assert scan("data.tfrecords").records == 1


def test_rejected_rows_are_kept_to_be_mended_and_fed_again(images, capsys):
    with open("some.tsv", "w") as file:
        file.write("0.png\tGOOD\nnone.png\tLATER\n1.png\tcontrol\x07\n")
    assert make("some.tsv", "out", "--rejects", "bad.tsv", "--workers", "1") == 0
    with open("bad.tsv", "rb") as file:
        assert file.read() == b"none.png\tLATER\n1.png\tcontrol\x07\n"
    assert "1 missing image" in capsys.readouterr().err
    Image.new("L", (3, 3)).save("none.png")
    assert make("bad.tsv", "out", "--workers", "1") == 0
    assert labels_of("out") == ["LATER"]


def test_rejected_rows_of_a_table_keep_its_header(images):
    with open("some.csv", "w") as file:
        file.write('label,"path"\nGOOD,0.png\n"LA,TER",none.png\nX\nY,"torn" x\nTOO,none.png\n')
    assert make("some.csv", "out", "--rejects", "bad.csv", "--workers", "1") == 0
    with open("bad.csv", "rb") as file:
        assert file.read() == b'label,"path"\n"LA,TER",none.png\nX\nY,"torn" x\nTOO,none.png\n'
    Image.new("L", (3, 3)).save("none.png")
    assert make("bad.csv", "out", "--workers", "1") == 0
    assert labels_of("out") == ["LA,TER", "TOO"]


@pytest.mark.parametrize("row, told", [
    ("none.png\tX", "missing image"), ("1.png\t blank", "whitespace around the label"),
    ("1.png\ta\u200bb", "invisible character: U+200B (ZERO WIDTH SPACE) at position 1"),
    ("0.png\tOTHER", "duplicate image with a different label: same image as list:1"),
])
def test_strict(images, row, told, capsys):
    with open("list", "w") as file:
        file.write(f"0.png\tSAME\n{row}\n")
    assert make("list", "out", "--workers", "1") == 0
    assert make("list", "strict", "--strict", "--workers", "1") == 1
    captured = capsys.readouterr().err
    assert captured.count(told.split(":")[0]) == 4 and told in captured and "--strict: 1 problems" in captured
    assert not glob.glob("strict*") and os.path.exists("out")


@pytest.mark.parametrize("flags, told", [
    (["--split", "0.9999/0.0001"], "out-test: empty dataset: none of the 2 records falls into this share of --split "
                                   "(0.0001)"),
    (["--shards", "5"], "out-*-of-00005: 2 records leave 3 of 5 shards empty"),
])
def test_empty_parts_are_told(images, flags, told, capsys):
    with open("few.tsv", "w") as file:
        file.write("0.png\tA\n1.png\tB\n")
    assert make("few.tsv", "out", *flags, "--workers", "1") == 0
    assert told in capsys.readouterr().err
    assert make("few.tsv", "strict", *flags, "--strict", "--workers", "1") == 1
    assert "problems, " in capsys.readouterr().err and not glob.glob("strict*")


def test_a_directory_is_told_for_what_it_is_taken(images, capsys):
    os.mkdir("folder")
    for name in ("HELLO.png", "HELLO (2).png", "notes.md", "a\nb.png"):
        os.link("1.png", f"folder/{name}")
    assert make("folder", "out", "--workers", "1") == 0
    error = capsys.readouterr().err
    assert "folder: 2 images with labels in their names; ignored: 1 .md\n" in error
    assert "folder:1: mark of a copy in the label: 'HELLO (2)' from 'HELLO (2).png'; rename or remove the file" in error
    assert "skipped, no label in the name: folder/a\\nb.png: " in error
    assert make("folder", "strict", "--strict", "--workers", "1") == 1 and not os.path.exists("strict")


def test_a_list_named_in_another_unicode_form(images):
    with open("liste\u0301.tsv", "w") as file:
        file.write("0.png\tA\n")
    assert make("list\xe9.tsv", "out", "--workers", "1") == 0


def test_inputs_of_many_kinds_become_one_dataset(images, capsys):
    assert make("list.tsv", "first.tfrecords", "--workers", "1") == 0
    os.mkdir("folder")
    Image.new("L", (3, 3)).save("folder/NAME_1.png")
    os.makedirs("far/away")
    Image.new("L", (4, 4)).save("far/away/x.png")
    with open("far/list.csv", "w") as file:
        file.write("label,path\nFAR,away/x.png\nNEAR,0.png\n")
    assert make("far/*.csv", "folder", "first.tfrecords", "all.tfrecords", "--workers", "1") == 0
    assert labels_of("all.tfrecords")[:4] == ["FAR", "NEAR", "NAME", "w0"]
    assert len(labels_of("all.tfrecords")) == 203


def test_an_image_root_is_the_last_place_to_look(images, tmp_path):
    (tmp_path / "root").mkdir()
    os.replace("0.png", "root/moved.png")
    with open("list", "w") as file:
        file.write("moved.png A\n1.png B\n")
    assert make("list", "out", "--image-root", "root", "--workers", "1") == 0
    assert labels_of("out") == ["A", "B"]


def test_labels_are_normalised(image):
    with open("list", "w", encoding="utf-8") as file:
        file.write("a.png e\u0301\ufb01\n")
    for form, label in [("NFC", "\xe9\ufb01"), ("NFKC", "\xe9fi"), ("none", "e\u0301\ufb01")]:
        assert make("list", form, "--normalize", form) == 0
        assert labels_of(form) == [label]


def test_a_killed_build_leaves_nothing_that_looks_whole(images):
    with open("many.tsv", "w") as file:
        file.writelines(f"{path}\t{label}\n" for path, label in images * 100)
    command = [sys.executable, "-m", "aocr", "dataset", "many.tsv", "out", "--workers", "1", "--log-path", ""]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not any(os.path.getsize(part) > 20_000 for part in glob.glob(".aocr-*.part/out")):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not os.path.exists("out") and not os.path.exists("out.json")
    assert make("list.tsv", "out", "--workers", "1") == 0
    assert len(labels_of("out")) == 200 and not glob.glob(".aocr-*")


@pytest.mark.parametrize("number, code, told, to_all", [
    (signal.SIGTERM, 143, "terminated", False),
    (signal.SIGTERM, 143, "terminated", True),  # as a service manager does
    (signal.SIGINT, 130, "interrupted", True),  # as a terminal does
    (signal.SIGKILL, -signal.SIGKILL, None, False),
])
def test_a_build_that_is_ended_leaves_no_output_and_no_process(images, number, code, told, to_all):
    with open("many.tsv", "w") as file:
        file.writelines(f"{path}\t{label}\n" for path, label in images * 1000)
    command = [sys.executable, "-m", "aocr", "dataset", "many.tsv", "out", "--workers", "2", "--log-path", "",
               "--log-step", "1000000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)
    try:
        end = time.monotonic() + 120
        while not any(os.path.getsize(part) > 20_000 for part in glob.glob(".aocr-*.part/out")) and (
                time.monotonic() < end):
            time.sleep(0.05)
        os.killpg(process.pid, number) if to_all else process.send_signal(number)
        out, error = process.communicate(timeout=60)  # returns after all processes have closed the pipes
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert (process.returncode, out) == (code, "")
    if told:
        assert error == f"aocr: error: {told}\n"
        assert not glob.glob("out*") and not glob.glob(".aocr-*")
    assert not os.path.exists("out")


def test_a_worker_that_is_killed_is_an_error_and_leaves_nothing(images):
    with open("many.tsv", "w") as file:
        file.writelines(f"{path}\t{label}\n" for path, label in images * 1000)
    code = ("import multiprocessing, os, signal, sys\n"
            "from aocr.cli import main\n"
            "from aocr.data import build\n"
            "def add(self, checked, add=build._Build.add):\n"
            "    add(self, checked)\n"
            "    if self.counts.written == 200:\n"
            "        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)\n"
            "build._Build.add = add\n"
            "if __name__ == '__main__':\n"
            "    sys.exit(main(['dataset', 'many.tsv', 'out', '--workers', '2', '--log-path', '']))\n")
    with open("program.py", "w") as file:
        file.write(code)
    done = subprocess.run([sys.executable, "program.py"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr and not glob.glob("out*")
    assert done.stderr.endswith("aocr: error: a worker process was killed, possibly for lack of memory; lower "
                                "--workers\n")


def test_a_full_disk_is_an_error_and_leaves_nothing(images):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    command = [sys.executable, "-m", "aocr", "dataset", "list.tsv", "out", "--workers", "1", "--log-path", ""]
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True)
    assert done.returncode == 1 and "out: cannot be written" in done.stderr and "Traceback" not in done.stderr
    assert not glob.glob("out*")


def test_addresses_among_the_paths_are_rows_less(image, capsys):
    with open("list", "w") as file:
        file.write("a.png ONE\nhttp://example.org/a.png TWO\n")
    assert make("list", "out", "--workers", "1") == 0
    assert labels_of("out") == ["ONE"]
    assert "list:2: skipped, unreadable image: http://example.org/a.png: File system scheme 'http' not implemented" in (
        capsys.readouterr().err)


def test_names_that_are_no_text(image, capfd):
    os.mkdir("folder")
    for name in (b"folder/\xff.png", b"folder/B.png"):
        with open(name, "wb") as file:
            file.write(image)
    with open(b"folder/\xff.txt", "wb") as file:
        file.write(b"A")
    assert make("folder", "out", "--save-filename", "--workers", "1", "--rejects", "rejects") == 0
    assert read_dataset("out") == [(image, "A", "folder/\\udcff.png")]
    assert main(["dataset", "folder", "named", "--input-format", "names", "--log-path", "log"]) == 0
    assert labels_of("named") == ["B"]
    with open("log", encoding="utf-8") as file:
        assert "folder/\\udcff.png: the name is not UTF-8; rename the file" in file.read()
    assert "Traceback" not in capfd.readouterr().err
