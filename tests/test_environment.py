"""What the machine lacks is one line: descriptors, memory, room, permissions, names that are valid text."""

import errno
import functools
import os
import resource
import subprocess
import sys

import pytest
import tensorflow.compat.v1 as tf

from aocr.cli import main
from aocr.commands import inspect
from aocr.commands.runtime import _stderr_aside
from aocr.data.duplicates import Duplicates
from aocr.errors import UserError
from aocr.files import environment_problem


@pytest.mark.parametrize("error, line", [
    (OSError(errno.EMFILE, os.strerror(errno.EMFILE), "a.png"), "a.png: Too many open files"),
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
    (IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), "a"), "a: Is a directory"),
    (MemoryError(), "out of memory; use smaller batches or images, or fewer processes"),
    (UnicodeEncodeError("utf-8", "x\udcff", 1, 2, "surrogates not allowed"),
     "x\udcff: not valid UTF-8; rename the file or directory"),
    (tf.errors.DataLossError(None, None, "corrupted record at 7"), "corrupted record at 7"),
    (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"), "OOM when allocating tensor"),
    (tf.errors.PermissionDeniedError(None, None, "a/b; Permission denied"), "a/b; Permission denied"),
    (tf.errors.FailedPreconditionError(None, None, "a; Is a directory"), "a; Is a directory"),
    (ImportError("Traceback ...\nx.so: cannot open shared object file: Too many open files"),
     "x.so: cannot open shared object file: Too many open files"),
])
def test_a_fault_of_the_machine_is_one_line(error, line, monkeypatch, capsys):
    def fail(_):
        raise error

    monkeypatch.setattr(inspect, "run", fail)
    assert main(["inspect", "data", "--log-path", ""]) == 1
    shown = line.encode("utf-8", "backslashreplace").decode()
    assert capsys.readouterr().err == f"aocr: error: {shown}\n"


@pytest.mark.parametrize("error", [
    ValueError("No space left on device"), RuntimeError("wrong"), ImportError("No module named x"), KeyError("x"),
    tf.errors.InvalidArgumentError(None, None, "shapes differ"), tf.errors.NotFoundError(None, None, "Key a not found"),
    UnicodeEncodeError("ascii", "\u0416", 0, 1, "ordinal not in range")])
def test_a_fault_of_the_program_is_none_of_the_machine(error):
    assert environment_problem(error) is None


def test_a_full_or_missing_temporary_directory_does_not_stop_an_import(monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    with _stderr_aside():
        os.write(2, b"hidden")


def test_room_for_duplicates(monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    with pytest.raises(UserError, match="^temporary files cannot be written: No such file or directory; free some"):
        Duplicates().__enter__()
    monkeypatch.setattr("tempfile.TemporaryFile", functools.partial(open, "/dev/full", "r+b"))
    message = "^temporary files cannot be written: No space left on device; free some space, or name another directory"
    with pytest.raises(UserError, match=message), Duplicates() as duplicates:
        duplicates.add(bytes(9), bytes(8), 0, 1)
        duplicates.copies()


def limited(*command, **limits):
    """Runs aocr with limits of the system. Returns its result."""
    def limit():
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, name), (value, value))

    return subprocess.run([sys.executable, "-m", "aocr", *command, "--log-path", ""], preexec_fn=limit, timeout=60,
                          capture_output=True, check=False)


@pytest.mark.parametrize("most", [8, 10, 12, 32])
def test_few_descriptors_are_one_line(most, tmp_path):
    done = limited("synth", str(tmp_path / "out"), "--count", "300", "--workers", "2", RLIMIT_NOFILE=most)
    assert done.returncode == (0 if most == 32 else 1)
    assert b"Traceback" not in done.stderr and done.stderr.count(b"\n") == 1


def test_a_dataset_with_few_descriptors_is_one_line(dataset):
    done = limited("inspect", dataset, RLIMIT_NOFILE=32)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1] == (
        "aocr: error: temporary files cannot be written: Too many open files; free some space, or name another "
        "directory in TMPDIR")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("command, message", [
    (["synth", "out", "--words", "/dev/zero"], "--words /dev/zero: cannot be read: a device, not a file"),
    (["predict", "--charset", "/dev/zero"], "--charset /dev/zero: cannot be read: a device, not a file"),
    (["dataset", "/dev/zero", "out.tfrecords"], "/dev/zero: cannot be read: a device, not a file"),
    (["inspect", "/dev/zero"], "/dev/zero: not a regular file")])
def test_no_device_is_read_without_end(command, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--log-path", ""]) == 1
    assert message in capsys.readouterr().err
    assert not os.listdir(tmp_path)
