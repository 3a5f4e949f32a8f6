"""Standard streams and logs that are closed, full, gone or not UTF-8; working directories that are gone."""

import contextlib
import json
import os
import resource
import subprocess
import sys

import pytest

from aocr.cli import main
from aocr.commands import inspect

AOCR = [sys.executable, "-m", "aocr"]
# A command that prints what it is given and logs a line; starts without TensorFlow.
PRINT = [sys.executable, "-c", "import sys, logging, aocr.cli, aocr.__main__, aocr.commands.predict as p\n"
         "from aocr.commands.streams import standard_input, write, write_line\n"
         "def run(args):\n    logging.getLogger('aocr.x').warning('%s', args.files[1])\n"
         "    exec(args.files[0])\n    write_line(*args.files[1:])\n    return 0\n"
         "p.run = run\nsys.exit(aocr.__main__.main())", "predict", "--log-path", ""]


def shell(command, redirection, **how):
    """Runs a command with redirections of a shell. Returns its result; output as bytes."""
    return subprocess.run(["bash", "-c", f'"$@" {redirection}', "bash", *command], capture_output=True, check=False,
                          **how)


@pytest.mark.parametrize("command", [[*PRINT, "pass", "x"], [*AOCR, "--help"], [*AOCR, "train", "--help"],
                                     [*AOCR, "--version"]])
@pytest.mark.parametrize("redirection, reason", [(">/dev/full", "No space left on device"), (">&-", "it is closed")])
def test_results_that_cannot_be_written_are_an_error(command, redirection, reason):
    done = shell(command, redirection)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1] == (
        f"aocr: error: standard output: cannot be written: {reason}; the results are incomplete")
    assert done.stderr.count(b"\n") == (2 if command[-1] == "x" else 1)


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&- 2>&-"])
def test_messages_that_cannot_be_written_are_not(redirection):
    done = shell([*PRINT, "pass", "x"], redirection)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"x\n", b"")


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    opened = "print(open('out.txt', 'w').fileno()); import os; os.write(2, b'from a library')"
    done = shell([*PRINT, opened, "x"], "<&- 2>&-", cwd=tmp_path)
    assert done.returncode == 0 and int(done.stdout.split()[0]) > 2
    assert (tmp_path / "out.txt").read_bytes() == b""


def test_stdin_that_is_closed_is_an_error():
    done = shell([*PRINT, "standard_input()", "x"], "<&-")
    assert done.returncode == 1
    assert done.stderr.splitlines()[1] == (b"aocr: error: standard input: cannot be read: it is closed; pass paths as "
                                           b"arguments or through a pipe")


@pytest.mark.parametrize("redirection", [">/dev/full", "| true"])
def test_a_thread_that_waits_for_stdin_does_not_keep_the_program_from_ending(redirection):
    code = "import threading, time; lines = standard_input(); " \
           "threading.Thread(target=list, args=[lines], daemon=True).start(); time.sleep(0.2)"
    script = f'exec {{fd}}<> <(:); "$@" <&$fd {redirection}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", script, "bash", *PRINT, code, "x"], capture_output=True, check=False,
                          timeout=20)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == (2 if "full" in redirection else 1)


@pytest.mark.parametrize("setting", [dict(PYTHONIOENCODING="cp1252"), dict(PYTHONIOENCODING="utf-16"),
                                     dict(LC_ALL="C"), dict(LC_ALL="POSIX", PYTHONIOENCODING="ascii:strict")])
def test_results_are_utf_8_in_any_locale(setting):
    done = subprocess.run([*PRINT, "pass", "\u0416\u0423\u041a"], env={**os.environ, **setting}, capture_output=True,
                          check=True)
    assert done.stdout == "\u0416\u0423\u041a\n".encode()
    assert done.stderr == "aocr: warning: \u0416\u0423\u041a\n".encode()


def test_a_result_is_one_line_of_valid_text():
    done = subprocess.run([*PRINT, "write(__import__('json').dumps(sys.argv[-2:], ensure_ascii=False))",
                           b"a\xff\tb\nc.png", "x\u2028"], capture_output=True, check=True)
    whole, line, _ = done.stdout.decode().split("\n")
    assert json.loads(whole) == ["a\udcff\tb\nc.png", "x\u2028"]
    assert line == "a\\udcff\\tb\\nc.png\tx\\u2028"


def test_streams_of_a_calling_program_stay_as_they_are(monkeypatch, capsys):
    monkeypatch.setattr(inspect, "run", lambda args: 0)
    with open(os.devnull, "w", encoding="latin-1", errors="ignore") as stream, contextlib.redirect_stdout(stream):
        assert main(["inspect", "data", "--log-path", ""]) == 0
        assert (stream.encoding, stream.errors) == ("latin-1", "ignore")


def test_a_log_file_that_fails_in_the_middle_is_told_once(tmp_path):
    done = subprocess.run([*PRINT, "pass", "x", "--log-path", "x.log"], capture_output=True, check=True, cwd=tmp_path,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)))
    assert done.stdout == b"x\n"
    assert done.stderr.decode().splitlines() == [
        "aocr: warning: x", "aocr: warning: x.log: the log cannot be written: File too large; continuing without it"]


def test_a_log_that_nobody_reads_is_not_waited_for(tmp_path, capsys):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    assert main(["inspect", "data", "--log-path", str(path)]) == 1
    assert f"--log-path {path}: cannot be written: is a FIFO; " in capsys.readouterr().err


@pytest.mark.parametrize("command", [["synth", "out"], ["inspect", "/tmp/data"], ["train", "data"]])
def test_a_working_directory_that_is_gone(command, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run([*AOCR, *command], cwd=gone, preexec_fn=gone.rmdir, capture_output=True, check=False)
    assert done.returncode == 1 and done.stderr.decode() == (
        "aocr: error: the working directory cannot be used: No such file or directory; change to another one\n")
