"""The command line itself: accepted and rejected arguments, logging, exit codes."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import aocr
from aocr.cli import build_parser, main
from aocr.commands import flags, inspect, predict
from aocr.commands.runtime import ONEDNN, RETRIES, quiet_tensorflow
from aocr.config import ModelConfig, SynthConfig, TrainConfig


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"aocr {aocr.__version__}\n"


@pytest.mark.parametrize("arguments, message", [
    ([], "COMMAND"),
    (["fly"], "invalid choice"),
    (["train"], "DATASET"),
    (["train", "data", "--bogus"], "unrecognized"),
    (["train", "data", "--max-w", "3"], "unrecognized"),  # no abbreviations
    (["train", "data", "--batch-size", "many"], "--batch-size"),
    (["export", "--format", "paper"], "invalid choice"),
])
def test_what_is_not_understood_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments, message", [
    (["train", "data", "--batch-size", "0"], "--batch-size is 0; the minimum is 1"),
    (["train", "data", "--max-gradient-norm", "0"], "--max-gradient-norm is 0.0; use a number above 0"),
    (["train", "data", "--max-gradient-norm", "nan"], "--max-gradient-norm is nan"),
    (["train", "data", "--initial-learning-rate", "-0.5"], "--initial-learning-rate is -0.5"),
    (["train", "data", "--attn-num-layers", "0"], "--attn-num-layers is 0"),
    (["predict", "--max-width", "-3", "x.png"], "--max-width is -3"),
    (["predict", "--model-dir", "", "x.png"], "--model-dir is empty"),
    (["export", "--model-version", "0"], "--model-version is 0"),
    (["dataset", "list", "--log-step", "0"], "--log-step is 0"),
    (["train", "data", "--keep", "10001"], "--keep is 10001; the maximum is 10000"),
    (["train", "data", "--local-cluster", "ps=1,worker=65"], "--local-cluster is 'ps=1,worker=65'; the maximum is 64"),
    (["train", "data", "--local-cluster", "ps=\u00b2"], "--local-cluster is 'ps=\u00b2'; use something like"),
    (["dataset", "-", "--split", "0.5/nan"], "--split is 0.5/nan; give two or three shares"),
    (["inspect", "s3://bucket/data"], "s3://bucket/data: storage s3:// is not supported; name a local path or one of"),
    (["train", "data", "--validation", "https://host/x"], "--validation https://host/x: storage https:// is not"),
    (["synth", "out", "--fonts", "a", "--fonts", "S3://f"], "--fonts S3://f: storage S3:// is not supported"),
    (["augment", "data", "a\0b"], "a\\x00b: holds a NUL character; remove it"),
    (["predict", "--charset", "a\0"], "--charset a\\x00: holds a NUL character"),
])
def test_a_value_beyond_its_limit_is_one_line_and_exit_2(arguments, message, capsys):
    assert main([*arguments, "--log-path", ""]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"aocr: error: {message}") and len(captured.err.splitlines()) == 1
    assert not captured.out


def test_a_gradient_norm_is_a_float():
    args = build_parser().parse_args(["train", "data", "--max-gradient-norm", "0.5"])
    assert flags.collect(args, TrainConfig).max_gradient_norm == 0.5


@pytest.mark.parametrize("arguments", [
    ["--job-dir", "gs://b/j", "train", "data"],
    ["train", "data", "--steps-per-checkpoint", "5", "--job-dir", "gs://b/j"],
    ["train", "--model-dir=gs://b/j", "data"],
    ["--model-dir", "other", "train", "data", "--job-dir", "gs://b/j"],  # the last one wins
])
def test_the_job_directory_may_stand_on_either_side(arguments):
    assert build_parser().parse_args(arguments).model_dir == "gs://b/j"


def test_what_is_given_is_told_from_what_is_left_out():
    args = build_parser().parse_args(["train", "data", "--max-width", "160", "--no-resume"])
    assert flags.given(args, ModelConfig) == {"max_width": 160}
    config = flags.collect(args, TrainConfig)
    assert config == TrainConfig(resume=False) and config.initial_learning_rate == 0.001


def test_an_option_that_may_be_repeated():
    args = build_parser().parse_args(["synth", "out", "--fonts", "a", "--backgrounds", "b", "--fonts", "c"])
    assert flags.collect(args, SynthConfig) == SynthConfig(fonts=("a", "c"), backgrounds=("b",))


@pytest.mark.parametrize("command", ["train", "test", "predict", "export"])
def test_the_original_s_flags_are_taken_everywhere(command):
    """The original accepts all of these on every command that uses a model."""
    arguments = {"train": ["data"], "test": ["data"], "predict": [], "export": ["out"]}[command]
    build_parser().parse_args([
        command, *arguments, "--max-width", "1", "--max-height", "2", "--max-prediction", "3", "--full-ascii",
        "--color", "--no-distance", "--gpu-id", "-1", "--use-gru", "--attn-num-layers", "4", "--attn-num-hidden", "5",
        "--initial-learning-rate", "0.5", "--job-dir", "d", "--target-embedding-size", "6", "--output-dir", "o",
        "--max-gradient-norm", "7", "--no-gradient-clipping", "--log-path", "l"])


def test_a_flag_without_effect_says_so(tmp_path, capsys):
    assert main(["predict", "--model-dir", str(tmp_path), "--no-distance", "--max-gradient-norm", "3", "--log-path", "",
                 "x.png"]) == 1
    error = capsys.readouterr().err
    assert "--no-distance has no effect on `aocr predict`" in error
    assert "--max-gradient-norm has no effect on `aocr predict`" in error


def test_help_tells_every_default(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for default in ("160", "60", "8", "128", "16, fewer if the mean width is above 400 pixels at "
                    "height 32; 65 with --optimizer adadelta", "1000", "100", "./checkpoints",
                    "0.001; 1.0 with --optimizer adadelta", "1.0; 5.0 with --optimizer adadelta", "aocr.log"):
        assert f"(default: {default})" in shown


def test_the_log_goes_to_the_file_too(tmp_path, capsys):
    path = tmp_path / "run.log"
    assert main(["predict", "--model-dir", str(tmp_path / "none"), "--log-path", str(path), "x.png"]) == 1
    assert "no checkpoint there" in path.read_text() and "no checkpoint there" in capsys.readouterr().err
    assert not logging.getLogger("aocr").handlers


def test_a_message_is_one_line_whatever_it_cites(tmp_path, monkeypatch, capsys):
    def cite(_):
        logging.getLogger("aocr.test").warning("%s", "a\nb\x1b[31m\tc\u2028")
        return 0

    monkeypatch.setattr(inspect, "run", cite)
    path = tmp_path / "run.log"
    assert main(["inspect", "data", "--log-path", str(path)]) == 0
    assert capsys.readouterr().err == "aocr: warning: a\\nb\\x1b[31m\tc\\u2028\n"
    assert path.read_text().endswith("WARNING a\\nb\\x1b[31m\tc\\u2028\n")


def test_a_log_file_that_cannot_be_written_is_an_error_if_it_was_asked_for(tmp_path, capsys, monkeypatch):
    assert main(["predict", "--log-path", str(tmp_path / "no" / "run.log"), "x.png"]) == 1
    assert "--log-path" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    os.mkdir("aocr.log")  # blocks the default log file
    assert main(["predict", "--model-dir", "none", "x.png"]) == 1
    error = capsys.readouterr().err
    assert "continuing without a log file" in error and "no checkpoint there" in error


def test_a_fault_of_ours_is_told_with_its_cause(monkeypatch, capsys):
    def broken(args):
        raise ZeroDivisionError("the cause")

    monkeypatch.setattr(predict, "run", broken)
    assert main(["predict", "--log-path", ""]) == 1
    error = capsys.readouterr().err
    assert "please report it" in error and "ZeroDivisionError: the cause" in error


def test_a_reader_that_goes_away_is_told_by_the_exit_code_only():
    """`aocr ... | head`: the pipe is closed before aocr prints."""
    code = "import sys, aocr.commands.predict as p; from aocr.cli import main\n" \
           "def run(args):\n    print('x' * 100000, flush=True)\n    return 0\n" \
           "p.run = run\nsys.exit(main(['predict', '--log-path', '']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_sigterm_is_for_the_caller_before_and_after(monkeypatch, capsys):
    def ended(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(inspect, "run", ended)
    assert main(["inspect", "data", "--log-path", ""]) == 143
    assert capsys.readouterr().err == "aocr: error: terminated\n"
    assert signal.getsignal(signal.SIGTERM) == before
    codes = []
    monkeypatch.setattr(inspect, "run", lambda args: 7)
    thread = threading.Thread(target=lambda: codes.append(main(["inspect", "data", "--log-path", ""])))
    thread.start()
    thread.join()
    assert codes == [7]


@pytest.mark.parametrize("number, line", [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_that_a_library_takes_for_an_error_ends_the_program(number, line, monkeypatch, capsys):
    def swallowed(_):
        try:
            os.kill(os.getpid(), number)
        except BaseException as error:
            raise RuntimeError("MISMATCH of exception types") from error

    monkeypatch.setattr(inspect, "run", swallowed)
    assert main(["inspect", "data", "--log-path", ""]) == 128 + number
    assert capsys.readouterr().err == f"aocr: error: {line}\n"


def test_work_in_batches_asks_for_onednn_unless_the_user_chose(monkeypatch):
    monkeypatch.setenv(ONEDNN, "0")
    quiet_tensorflow(in_batches=True)
    assert os.environ[ONEDNN] == "0"
    monkeypatch.delenv(ONEDNN)
    quiet_tensorflow()
    assert ONEDNN not in os.environ
    quiet_tensorflow(in_batches=True)
    assert os.environ[ONEDNN] == "1"


def test_storage_is_not_waited_for_in_silence_unless_the_user_chose(monkeypatch):
    monkeypatch.setenv(RETRIES, "10")
    quiet_tensorflow()
    assert os.environ[RETRIES] == "10"
    monkeypatch.delenv(RETRIES)
    quiet_tensorflow()
    assert os.environ[RETRIES] == "5"


@pytest.mark.parametrize("text, message", [
    ("abca", "the charset repeats 'a'"), ("", "at least one character"), ("latin1.txt", "latin1.txt: cannot be read"),
    ("\ud800", "holds single characters; '\\ud800' is not one"),
])
def test_a_charset_that_is_none(text, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9")
    assert main(["predict", "x.png", "--charset", text, "--log-path", ""]) in (1, 2)
    assert message in capsys.readouterr().err


def test_a_long_charset_takes_no_time(tmp_path, capsys):
    path = tmp_path / "charset.txt"
    path.write_text("".join(map(chr, range(0x4E00, 0x9FFF))) * 5, encoding="utf-8")
    began = time.monotonic()
    assert main(["predict", "x.png", "--charset", str(path), "--log-path", ""]) == 2
    assert time.monotonic() - began < 2  # by counting each of 100,000 characters: minutes
    assert capsys.readouterr().err.endswith("'\u4e09' and others\n")


def test_one_alphabet_only(capsys):
    assert main(["predict", "x.png", "--charset", "ab", "--full-ascii", "--log-path", ""]) == 2
    assert "--full-ascii and --charset are mutually exclusive" in capsys.readouterr().err


def test_flags_that_nobody_knows(capsys):
    """Beam's flags are accepted only with --runner."""
    with pytest.raises(SystemExit) as caught:
        main(["dataset", "list", "out", "--num_workers=3"])
    assert caught.value.code == 2 and "unrecognized arguments: --num_workers=3" in capsys.readouterr().err


@pytest.mark.parametrize("flags, message", [
    ([], None),
    (["--monitor", "loss"], "--monitor has no effect without --validation or --validation-split"),
    (["--monitor", "loss", "--validation-split", "0.1"], None),
    (["--charset-change", "fail"], "--charset-change has no effect without --init-from"),
    (["--charset-change", "fail", "--init-from", "x"], None),
    (["--charset-change", "fail", "--init-from", "x", "--full-ascii"], "no effect with --charset or --full-ascii"),
    (["--weight-decay", "0.1"], "--weight-decay has no effect with --optimizer adam"),
    (["--weight-decay", "0.1", "--optimizer", "adamw"], None),
    (["--forget-bias", "1", "--use-gru"], "--forget-bias has no effect with --use-gru"),
    (["--max-gradient-norm", "2", "--no-gradient-clipping"], "--max-gradient-norm has no effect with")])
def test_a_flag_that_another_one_makes_useless_is_told(tmp_path, capsys, flags, message):
    missing = str(tmp_path / "missing.tfrecords")
    assert main(["train", missing, "--model-dir", str(tmp_path), "--log-path", "", *flags]) == 1
    warnings = [line for line in capsys.readouterr().err.splitlines() if "no effect" in line]
    assert len(warnings) == bool(message) and (not message or message in warnings[0])
