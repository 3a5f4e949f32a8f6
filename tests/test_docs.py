"""The documentation is short, its links work, and its options exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from aocr.cli import build_parser
from aocr.config import SynthConfig
from aocr.synth.generate import make_words

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 250


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]*)", page.read_text(encoding="utf-8")):
        if target and not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_list_of_parameters_is_up_to_date():
    written = subprocess.run([sys.executable, str(ROOT / "docs" / "parameters.py")], capture_output=True, text=True,
                             encoding="utf-8", check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"})
    assert written.stdout == (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8"), (
        "run `python docs/parameters.py > docs/parameters.md`")


def test_the_python_page_runs(tmp_path):
    """Runs all of the page's code, its training cut short, on drawn words."""
    code = "".join(re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"),
                              re.MULTILINE | re.DOTALL))
    training, small = "max_minutes=2", "max_steps=3, attn_num_hidden=8, batch_size=5"
    assert training in code
    script = tmp_path / "page.py"
    script.write_text("import sys, aocr\nassert not {'tensorflow', 'numpy', 'PIL'} & set(sys.modules)\n"
                      + code.replace(training, small))
    make_words(str(tmp_path / "words"), SynthConfig(count=30, workers=1))
    next((tmp_path / "words").glob("*.png")).rename(tmp_path / "word.png")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, cwd=tmp_path,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert "missing.png no such file" in done.stdout
    assert (tmp_path / "report" / "report.html").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_options_that_are_written(page):
    """Parses each line of a code block that begins with `aocr`, up to a pipe."""
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for line in "".join(blocks).replace("\\\n", " ").splitlines():
        if line.startswith("aocr ") and ": " not in line.partition(" ")[0]:
            words = shlex.split(re.split(r" [|>] ", line)[0])
            build_parser().parse_args(words[1:])
