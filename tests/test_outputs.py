"""What commands may write to and replace, and files that appear together or not at all."""

import concurrent.futures
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from helpers import train
from PIL import Image

from aocr import aside
from aocr.charset import Charset
from aocr.checkpoint import Description, known_checkpoints, latest_checkpoint
from aocr.cli import main
from aocr.config import ExportConfig, ModelConfig
from aocr.data.outputs import REJECTS
from aocr.errors import UserError
from aocr.evaluation.sheets import is_sheet
from aocr.exporting import placing
from aocr.files import WholeFiles, whole_file
from aocr.inputs import INPUT_NAME
from aocr.outputs import Kind, Output, check_log, check_outputs
from aocr.tasks import export
from aocr.training.keeping import Keeper, clear_leftovers
from aocr.training.outputs import KINDS
from aocr.training.state import RunState

ANY = Kind("anything", lambda path: True)
NONE = Kind("a thing of ours", lambda path: False)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Changes to tmp_path, with two images and a list of them; returns a function of the content of all files."""
    monkeypatch.chdir(tmp_path)
    for k in range(2):
        Image.fromarray(np.full((7, 11), k, np.uint8)).save(f"{k}.png")
    (tmp_path / "list.txt").write_text("0.png A\n1.png B\nnone.png C\n")
    return lambda: {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}


def run(*arguments):
    """Runs a command without a log file. Returns the exit code."""
    return main([*arguments, "--log-path", ""])


# ---- writing aside

def test_files_appear_together(here):
    with WholeFiles(["a", "b"]) as files:
        for name in "ab":
            with open(files.part(name), "w") as file:
                file.write(name)
        assert not os.path.exists("a")
        files.put()
    assert (here()["a"], here()["b"]) == (b"a", b"b") and not [name for name in os.listdir() if name.startswith(".")]


@pytest.mark.parametrize("hard_links", [True, False])
def test_if_one_file_cannot_take_its_place_all_are_as_before(here, monkeypatch, hard_links):
    if not hard_links:
        monkeypatch.setattr(os, "link", lambda *_: os.mkdir("/"))  # fails
    with open("a", "w") as file:
        file.write("old")
    before = here()
    with pytest.raises(OSError), WholeFiles(["a", "b", "c"]) as files:
        os.mkdir("c")
        os.mkdir("c/x")
        aside.replace_all([(files.part(name), name) for name in "abc"])
    assert here() == before and sorted(name for name in os.listdir() if name.startswith(".")) == []


def test_only_what_a_killed_process_left_is_removed(here):
    code = ("import os, signal, sys, time\nfrom aocr.aside import aside\n"
            "with aside('.') as path:\n    print(path, flush=True)\n    time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as running:
        path = running.stdout.readline().strip()
        os.makedirs(".aocr-abcdefgh.part")  # not made by this program: it has no lock
        for name in ("out.part", ".aocr-abcdefgh.part/x"):
            with open(name, "w") as file:
                file.write("somebody's")
        with whole_file("out"):
            assert os.path.exists(path)
        running.send_signal(signal.SIGKILL)
        running.wait()
        with open(os.path.join(path, "half"), "w") as file:
            file.write("half")
        with whole_file("out"):
            assert not os.path.exists(path)
    assert os.path.exists("out.part") and os.path.exists(".aocr-abcdefgh.part/x")


def test_a_link_stays_and_its_target_is_replaced(here):
    os.mkdir("elsewhere")
    os.symlink("elsewhere/file", "link")
    with pytest.raises(OSError, match="is a link to elsewhere/file, which does not exist"), whole_file("link"):
        pass
    open("elsewhere/file", "w").close()
    with whole_file("link") as part, open(part, "w") as file:
        file.write("new")
    assert os.path.islink("link") and Path("elsewhere/file").read_text() == "new"
    assert os.listdir("elsewhere") == ["file"]


def test_directories_are_swapped(here):
    for name in ("old", "new"):
        os.mkdir(name)
        open(f"{name}/{name}", "w").close()
    aside.swap_in("new", "old")
    assert os.listdir("old") == ["new"]
    aside.swap_in("old", "third")
    assert os.listdir("third") == ["new"]


def test_without_an_exchange_the_earlier_directory_comes_back_after_an_error(here, monkeypatch):
    os.mkdir("old")
    monkeypatch.setattr(aside, "_exchange", lambda *_: False)
    with pytest.raises(FileNotFoundError):
        aside.swap_in("none", "old")
    assert os.path.isdir("old")


# ---- the guard

def special(kind):
    """Makes something that is no file; returns its path."""
    if kind == "FIFO":
        os.mkfifo("x")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("x")
    elif kind == "directory":
        os.mkdir("x")
    else:
        os.symlink(kind, "x")
    return "x"


def unread(path):
    """Returns all but the access time of a file, which following a link changes."""
    status = os.lstat(path)
    return status.st_mode, status.st_ino, status.st_dev, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@pytest.mark.parametrize("kind", ["FIFO", "socket", "directory", "/dev/null", "/dev/stdout", "/dev", "/no/such", "x"])
@pytest.mark.parametrize("command", [["dataset", "list.txt"], ["dataset", "list.txt", "out", "--rejects"]])
def test_nothing_but_files_is_written(here, kind, command):
    path = special(kind)
    if "--rejects" in command and kind in ("/dev/null", "/dev/stdout"):
        return  # the rows may go there
    before = unread(path)
    assert run(*command, path) == 1
    assert unread(path) == before and "out" not in os.listdir()


@pytest.mark.parametrize("path", ["/dev/null", "/dev/stdout", "/proc/self/fd/1", "/dev/none", "link/null", "", "a\0b",
                                  "list.txt/"])
def test_no_device_is_replaced_by_any_spelling(here, path):
    os.symlink("/dev", "link")
    with pytest.raises(OSError):
        aside.place_of(path)


@pytest.mark.parametrize("spelling", ["list.txt", "./list.txt", "sub/../list.txt", "link", "hard",
                                      "link-directory/list.txt"])
def test_an_input_is_no_output_by_any_spelling(here, tmp_path, spelling, capsys):
    os.mkdir("sub")
    os.symlink("list.txt", "link")
    os.link("list.txt", "hard")
    os.symlink(".", "link-directory")
    for name in (spelling, str(tmp_path / spelling)):
        before = here()
        assert run("dataset", "list.txt", "out", "--rejects", name) == 1
        assert f"--rejects {name}: is one of the inputs (list.txt); name another file" in capsys.readouterr().err
        assert run("dataset", "l*.txt", name) == 1
        assert here() == before


def test_a_redirected_input_is_no_output(here):
    code = "import sys\nfrom aocr.cli import main\nsys.exit(main(sys.argv[1:]))"
    before = here()
    with open("list.txt", "rb") as file:
        done = subprocess.run([sys.executable, "-c", code, "dataset", "-", "out", "--rejects", "list.txt", "--log-path",
                               ""], stdin=file, capture_output=True, text=True)
    assert done.returncode == 1 and "--rejects list.txt: is where standard input leads" in done.stderr
    assert here() == before


def test_outputs_are_different_files(here):
    for arguments in (["out", "--rejects", "out"], ["out", "--rejects", "./out.json"],
                      ["x", "--shards", "2", "--rejects", "x-00001-of-00002"]):
        before = here()
        assert run("dataset", "list.txt", *arguments) == 1
        assert here() == before
    assert main(["dataset", "list.txt", "out", "--rejects", "log", "--log-path", "log"]) == 1
    assert "is the log file" in Path("log").read_text() and not os.path.exists("out")
    with pytest.raises(UserError, match="not valid UTF-8"):
        check_outputs([Output("\udcff", ANY)], [])
    with pytest.raises(UserError, match="gs://b/x: is one of the inputs"):
        check_outputs([Output("gs://b/x", ANY)], ["gs://b/x"])


def test_an_existing_file_of_another_kind_stays(here):
    check_outputs([Output("list.txt", ANY), Output("new", NONE)], [])
    with pytest.raises(UserError, match="--flag list.txt: exists and is not a thing of ours; remove it or name"):
        check_outputs([Output("list.txt", NONE, "--flag")], [])


@pytest.mark.parametrize("name, content, replaced", [
    ("mine.json", b'{"a": 1}', False), ("broken.json", b"{", False), ("empty.json", b"", True),
    ("ours.json", b'{"version": 1, "fingerprint": "", "records": 2}', True)])
def test_a_sidecar_replaces_only_a_sidecar(here, name, content, replaced):
    with open(name, "wb") as file:
        file.write(content)
    assert run("dataset", "list.txt", name.removesuffix(".json")) == (not replaced)
    assert (here()[name] == content) == (not replaced)


@pytest.mark.parametrize("content, replaced", [
    (b"none.png\tA\n", True), (b"\xff\xfe?\n", True), (b'{"image": "x", "text": "y"}\n', True),
    (b'{"image": "x"}\n{"image": "y"}\n', True), (b'[draft] A\nx B\n', True),
    (b"\x89PNG\r\n", False), (b"a\0b", False), (b'{\n "image": "x"\n}\n', False), (b'["x"]', False),
    (b'{"fingerprint": "1", "version": 1}\n', False), (b'{"kind": "train", "step": 1}\n{"kind": "train"}\n', False),
    (b'model_checkpoint_path: "model.ckpt-3"\n', False), (b"2024-01-02 03:04:05,678 INFO x\n", False)])
def test_rejected_rows_replace_only_rows(here, content, replaced):
    with open("bad", "wb") as file:
        file.write(content)
    assert REJECTS.fits("bad") == replaced


def test_rejected_rows_replace_no_file_of_an_input_directory(here, capsys):
    os.mkdir("folder")
    shutil.copy("0.png", "folder/a.png")
    with open("folder/a.txt", "w") as file:
        file.write("A")
    assert run("dataset", "folder", "out", "--rejects", "folder/a.txt") == 1
    assert "folder/a.txt: is a file of an input directory" in capsys.readouterr().err
    assert Path("folder/a.txt").read_text() == "A"


def test_rejected_rows_may_go_to_a_stream(here, capfd):
    assert run("dataset", "list.txt", "out", "--workers", "1", "--rejects", "/dev/null") == 0
    read, write = os.pipe()
    assert run("dataset", "list.txt", "out", "--workers", "1", "--rejects", f"/dev/fd/{write}") == 0
    os.close(write)
    with open(read, "rb") as pipe:
        assert pipe.read() == b"none.png C\n"


def test_a_dataset_replaces_only_a_dataset(here):
    with tf.io.TFRecordWriter("events") as writer:
        writer.write(tf.Event(file_version="brain.Event:2").SerializeToString())
    before = here()
    assert run("dataset", "list.txt", "events") == 1 and here() == before


# ---- several files

@pytest.mark.parametrize("obstacle", ["x-00001-of-00002", "x-00000-of-00002.json", "bad"])
def test_a_directory_in_the_way_of_one_file_leaves_the_others(here, obstacle, capsys):
    os.mkdir(obstacle)
    before = here()
    assert run("dataset", "list.txt", "x", "--shards", "2", "--rejects", "bad") == 1
    assert f"{obstacle}: cannot be written: is a directory" in capsys.readouterr().err
    assert here() == before and sorted(os.listdir()) == sorted([*before, obstacle])


def test_a_full_disk_at_the_sidecar_leaves_the_earlier_files(here, monkeypatch, capsys):
    assert run("dataset", "list.txt", "out", "--workers", "1") == 0
    before = here()

    def full(scan, file, sidecar):
        with open(sidecar, "w") as stream:
            stream.write("half")
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr("aocr.data.build.write_sidecar", full)
    assert run("dataset", "list.txt", "out", "--workers", "1", "--rejects", "bad") == 1
    assert "out: cannot be written: No space left on device" in capsys.readouterr().err
    assert here() == before


# ---- sheets

@pytest.fixture
def shards(here, dataset):
    """Two shards s-0000k-of-00002.tfrecords of a dataset; returns the content of all files, as `here`."""
    assert run("dataset", dataset, "s.tfrecords", "--shards", "2", "--workers", "1") == 0
    return here


@pytest.mark.parametrize("arguments", [
    ["augment", "s-00000-of-00002.tfrecords", "s-00001-of-00002.tfrecords"],  # as a shell expands s-*.tfrecords
    ["augment", "s-*.tfrecords", "s-00001-of-00002.tfrecords.json"],
    ["augment", "s-*.tfrecords", "list.txt"], ["augment", "s-*.tfrecords", "0.png"],
    ["inspect", "s-*.tfrecords", "--sheet", "s-00001-of-00002.tfrecords"],
    ["inspect", "s-*.tfrecords", "--sheet", "list.txt"], ["inspect", "s-*.tfrecords", "--sheet", "0.png"],
    ["inspect", "s-*.tfrecords", "--sheet", "/dev/null"]])
def test_a_sheet_replaces_no_input_and_no_other_file(shards, arguments):
    before = shards()
    assert run(*arguments) == 1
    assert shards() == before


def test_a_sheet_replaces_a_sheet(shards):
    os.mkdir("sheets")
    for sheet in ("a.png", "b.png"):
        open(f"sheets/{sheet}", "w").close()
        os.symlink(f"sheets/{sheet}", sheet)
    for _ in range(2):
        assert run("augment", "s-*.tfrecords", "a.png", "--count", "1", "--variants", "1", "--augment", "none") == 0
        assert run("inspect", "s-*.tfrecords", "--sheet", "b.png", "--count", "1") == 0
        assert is_sheet("sheets/a.png") and is_sheet("sheets/b.png") and os.path.islink("a.png")
    assert not is_sheet("0.png") and not is_sheet("list.txt")


# ---- exports

def write_export(directory):
    """Writes what looks like an export of ours, with its own number in it."""
    os.makedirs(f"{directory}/variables")
    for name in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        Path(directory, name).write_text(f"{INPUT_NAME} {os.path.dirname(directory)}")


def test_an_export_takes_the_place_of_the_earlier_one_behind_a_link(here):
    write_export("live")
    os.symlink("live", "link")
    before = Path("live/saved_model.pb").read_text()
    target = export.target_of("link", ExportConfig(force=True))

    def failing(directory):
        write_export(directory)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        placing.put(failing, target)
    assert Path("link/saved_model.pb").read_text() == before
    placing.put(write_export, target)
    assert os.path.islink("link") and Path("live/saved_model.pb").read_text() != before
    assert sorted(os.listdir()) == ["0.png", "1.png", "link", "list.txt", "live"]


def test_there_is_an_export_at_any_moment(here):
    write_export("live")
    write_export("new")
    if not aside._exchange("live", "new"):
        pytest.skip("this file system cannot exchange directories")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        swaps = pool.submit(lambda: [placing.put(write_export, "live") for _ in range(50)])
        while not swaps.done():
            assert os.path.exists("live")
        swaps.result()


@pytest.mark.parametrize("name, content", [
    ("mine.txt", "x"), ("assets/mine.txt", "x"), ("variables/mine.txt", "x"), ("saved_model.pb", "of another program"),
    ("frozen_graph.pb", "of another program"), (".git/config", "x")])
def test_only_an_export_is_replaced(here, name, content):
    write_export("live")
    path = Path("live", name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(UserError, match="--force replaces an earlier export only"):
        export.target_of("live", ExportConfig(force=True))
    os.symlink("none", "dangling")
    with pytest.raises(UserError, match="is a link to none, which does not exist"):
        export.target_of("dangling", ExportConfig(force=True))


# ---- logs

@pytest.mark.parametrize("content, taken", [
    (None, True), (b"", True), (b"2024-01-02 03:04:05,678 INFO x\n", True), (b"12:00:01 x\naocr: error: y\n", True),
    (b"a.png A\n", False), (b"\x89PNG\r\n", False), (b"\x10\0\0\0\0\0\0\0", False), (b'{"a": 1}', False)])
def test_a_log_is_appended_to_nothing_but_a_log(here, content, taken, capsys):
    if content is not None:
        with open("x", "wb") as file:
            file.write(content)
    assert main(["predict", "--model-dir", "none", "0.png", "--log-path", "x"]) == 1
    assert ("--log-path x: cannot be written: the file exists and is not a log" in capsys.readouterr().err) != taken
    assert (here()["x"] != content) == taken


def test_a_log_does_not_wait_for_the_reader_of_a_fifo(here):
    os.mkfifo("x")
    with pytest.raises(OSError, match="is a FIFO"):
        check_log("x")
    check_log("/dev/null")


# ---- model directories

@pytest.mark.parametrize("name", list(KINDS))
def test_a_training_replaces_no_file_of_another_program(dataset, tmp_path, name, capsys):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"mine": 1}')
    assert train(dataset, tmp_path, "--no-resume") == 1
    assert f"{path}: exists and is not " in capsys.readouterr().err
    assert [place for place in tmp_path.rglob("*") if place.is_file()] == [path] and path.read_text() == '{"mine": 1}'


@pytest.fixture
def saving(tmp_path):
    """A function (directory, step) that writes a checkpoint of a step as a run with --keep 2 does, resuming it."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        step = tf.get_variable("global_step", [], tf.int64, tf.zeros_initializer())
        given = tf.placeholder(tf.int64, [])
        assign = step.assign(given)
        training = SimpleNamespace(
            model=SimpleNamespace(graph=graph, variables={"global_step": step}), config=SimpleNamespace(keep=2),
            session=session, step=lambda: int(session.run(step)), train_ops=SimpleNamespace(global_step=step))

        def save(directory, number):
            session.run(assign, {given: number})
            newest = latest_checkpoint(str(directory))
            keeper = Keeper(training, str(directory), Description(ModelConfig(), Charset("ab")), newest)
            if newest:
                keeper.know_earlier()
            keeper.save(RunState())

        yield save


def test_a_run_deletes_checkpoints_in_its_own_directory_only(saving, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
    for step in (1, 2):
        saving(first, step)
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    (second / "checkpoint").write_text("".join(
        f'{name}: "{path}"\n' for name, path in (
            ("model_checkpoint_path", first / "model.ckpt-2"), ("all_model_checkpoint_paths", "../first/model.ckpt-1"),
            ("all_model_checkpoint_paths", first / "model.ckpt-2"))))
    assert latest_checkpoint(str(second)) == str(first / "model.ckpt-2") and not known_checkpoints(str(second))
    for step in (2, 3, 4):
        saving(second, step)
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    assert known_checkpoints(str(second)) == [f"{second}/model.ckpt-{step}" for step in (3, 4)]
    assert not list(second.glob("model.ckpt-2.*"))


def test_a_copied_directory_that_names_the_files_of_the_first_has_its_own(saving, tmp_path):
    first, copy = tmp_path / "first", tmp_path / "copy"
    first.mkdir()
    saving(first, 1)
    shutil.copytree(first, copy)
    (copy / "checkpoint").write_text(f'model_checkpoint_path: "{first}/model.ckpt-1"\n'
                                     f'all_model_checkpoint_paths: "{first}/model.ckpt-1"\n')
    assert known_checkpoints(str(copy)) == [latest_checkpoint(str(copy))] == [f"{copy}/model.ckpt-1"]


def test_what_a_killed_run_left_in_the_model_directory_is_removed(saving, tmp_path):
    leftovers = ["model.ckpt-1.index.tempstate123", "model.ckpt-1.data-00000-of-00001.tempstate9",
                 f"model.ckpt-1.meta.tmp{'0a' * 16}", f"checkpoint.tmp{'0a' * 16}"]
    kept = ["x.tempstate1", "model.ckpt-1.index.part", "checkpoint.tmp1", "x.part"]
    for name in [*leftovers, *kept]:
        (tmp_path / name).write_text("half")
    saving(tmp_path, 7)
    assert {path.name for path in tmp_path.iterdir()} == {
        *kept, "checkpoint", "model.json", *(f"model.ckpt-7.{part}" for part in (
            "index", "meta", "data-00000-of-00001"))}


def test_the_temporary_names_of_tensorflow_are_known(tmp_path):
    """Kills a process that writes a checkpoint, in the midst of it."""
    code = ("import sys, tensorflow.compat.v1 as tf\nwith tf.Graph().as_default(), tf.Session() as session:\n"
            "    tf.get_variable('x', [2 ** 27])\n    session.run(tf.global_variables_initializer())\n"
            "    print(flush=True)\n    tf.train.Saver().save(session, sys.argv[1] + '/model.ckpt', global_step=5)")
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        while not list(tmp_path.iterdir()):
            assert process.poll() is None
        process.kill()
    assert list(tmp_path.iterdir())
    clear_leftovers(str(tmp_path))
    assert not list(tmp_path.iterdir())
