"""The packages are complete and run wherever they are installed, built and installed as job services do."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKED = ("aocr", "tests", "benchmarks", "setup.py", "pyproject.toml", "docs", "README.md", "CHANGELOG.md",
          "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "Makefile")


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Returns (sdist, wheel), built offline from a copy of the sources."""
    copy = tmp_path_factory.mktemp("sources")
    for name in PACKED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    subprocess.run([sys.executable, "setup.py", "-q", "sdist"], cwd=copy, check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "dist", "."],
                   cwd=copy, check=True, capture_output=True)
    (sdist,), (wheel,) = (copy / "dist").glob("*.tar.gz"), (copy / "dist").glob("*.whl")
    return sdist, wheel


def modules():
    """Returns the paths of all modules of the package, from the root, and of its other files."""
    files = [*(ROOT / "aocr").rglob("*.py"), ROOT / "aocr" / "py.typed",
             *(ROOT / "aocr" / "evaluation" / "report" / "template").iterdir(),
             *(ROOT / "aocr" / "serving" / "static").iterdir()]
    return {str(path.relative_to(ROOT)) for path in files}


def test_the_sdist_and_the_wheel_hold_every_module(archives):
    sdist, wheel = archives
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert modules() | {"setup.py", "README.md", "CHANGELOG.md", "docs/training.md", "LICENSE",
                        "tests/c_api/read_image.c"} <= packed
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if name.startswith("aocr/")} == modules()


def test_the_installed_sdist_runs_from_anywhere(archives, tmp_path):
    """Installs it like a job service, with the dependencies of this environment."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    site, = environment.glob("lib/python*/site-packages")
    (site / "here.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    subprocess.run([sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install", "-q",
                    "--no-deps", "--no-build-isolation", "--no-index", str(archives[0])], check=True)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in ([environment / "bin" / "python", "-m", "aocr"], [environment / "bin" / "aocr"]):
        done = subprocess.run([*map(str, command), "--help"], cwd=tmp_path, env=clean, capture_output=True, text=True)
        assert done.returncode == 0 and "usage: aocr" in done.stdout, done.stderr
    assert {str(path.relative_to(site)) for path in (site / "aocr").rglob("*")
            if path.suffix in (".py", ".typed", ".html", ".css", ".js")} == modules()
    done = subprocess.run([str(environment / "bin" / "python"), "-c", "import aocr.model; print(aocr.__file__)"],
                          cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert done.stdout.startswith(str(site)), done.stderr


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_the_demo_in_a_short_form(tmp_path):
    """All commands of `make demo`, in this environment."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    done = subprocess.run(["make", "-f", str(ROOT / "Makefile"), "demo-run", "DEMO_TRAIN_WORDS=40", "DEMO_TEST_WORDS=6",
                           "DEMO_MINUTES=0.3"], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    assert "\nsamples: 6\n" in done.stdout and done.stdout.count("\ndemo/test/000") == 5
    for name in ("exported/1/saved_model.pb", "frozen/frozen_graph.pb", "model/model.json", "pictures"):
        assert (tmp_path / "demo" / name).exists()
