"""A small C program runs the exported model through TensorFlow's C API, without Python or any of our code."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import tensorflow as tf

SOURCE = Path(__file__).parent / "c_api" / "read_image.c"
LIBRARIES = ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2")


@pytest.fixture(scope="module")
def read_image(tmp_path_factory):
    """Path of the compiled program."""
    wheel = Path(tf.__file__).parent
    needed = [wheel / "include" / "tensorflow" / "c" / "c_api.h", *(wheel / name for name in LIBRARIES)]
    if not shutil.which("gcc"):
        pytest.skip("no gcc here to compile the C program with")
    if missing := [str(path) for path in needed if not path.exists()]:
        pytest.skip(f"this TensorFlow comes without {', '.join(missing)}")
    program = tmp_path_factory.mktemp("c_api") / "read_image"
    subprocess.run(["gcc", "-Wall", "-Werror", "-O1", f"-I{wheel / 'include'}", str(SOURCE), "-o", str(program),
                    *map(str, needed[1:]), f"-Wl,-rpath,{wheel}"], check=True)
    return str(program)


def run(*command):
    """Runs a command and returns the finished process, its streams captured."""
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})


@pytest.mark.parametrize("form", ["directory", "frozen"])
def test_c_reads_what_python_reads(read_image, exported_model, form):
    done = run(read_image, getattr(exported_model, form), *exported_model.images)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == exported_model.images
    assert [row[2] for row in rows] == exported_model.texts
    assert [float(row[1]) for row in rows] == pytest.approx(exported_model.probabilities, abs=1e-5)


def test_c_reads_one_image_without_a_batch(read_image, exported_model):
    done = run(read_image, "--scalar", exported_model.directory, exported_model.images[1])
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n").split("\t")[2] == exported_model.texts[1]


def test_c_is_told_that_bytes_are_no_image(read_image, exported_model, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    done = run(read_image, exported_model.directory, exported_model.images[0], str(tmp_path / "bad.png"))
    assert done.returncode == 1 and "not a supported image" in done.stderr and not done.stdout
