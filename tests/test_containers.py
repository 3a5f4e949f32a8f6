"""The container, and the commands that the page about containers and clients shows."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from stub_server import StubServer
from test_client import png

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "docs" / "compose.yaml").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
URL = "http://localhost:8501"


def instructions(name):
    """Returns the arguments of the instructions of a kind."""
    joined = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", "")
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


def test_copied_files_are_there_and_not_ignored():
    *ignored, pycache = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored[0] == "*" and pycache == "**/__pycache__"
    allowed = [line.removeprefix("!") for line in ignored[1:]]
    copied = [source for one in instructions("COPY") if "--from" not in one for source in shlex.split(one)[:-1]]
    assert "aocr" in copied
    for source in copied:
        assert (ROOT / source).exists() and any(fnmatch(source, f"{top}*") for top in allowed), source


def test_requirements_name_tensorflow_cpu_and_the_extra_alone():
    """Runs the Dockerfile's command on the package as it is installed here."""
    code = re.search(r"python -c '(.*?)' > requirements.txt", instructions("RUN")[1])[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = [re.match(r"[\w-]+", line)[0] for line in done.stdout.splitlines()]
    assert {"tensorflow-cpu", "numpy", "pillow", "distance"} <= set(names)
    assert not {"tensorflow", "matplotlib", "pytest", "apache-beam"} & set(names) and len(names) == len(set(names))


def test_the_health_check():
    command = instructions("HEALTHCHECK")[0].partition("CMD ")[2]
    code = re.fullmatch(r'\["python", "-c", "(.*)"\]', command)[1]
    with StubServer() as stub:
        here = code.replace("http://127.0.0.1:8501", stub.url)
        for status, content in ((0, {}), (1, None)):
            stub.troubles = [lambda handler, content=content: handler.send(200 if content is not None else 500, {})]
            assert subprocess.run([sys.executable, "-c", here], capture_output=True).returncode == status
    assert subprocess.run([sys.executable, "-c", here], capture_output=True).returncode == 1


def test_the_container_does_not_run_as_root():
    assert instructions("USER")[-1].isdecimal() and instructions("EXPOSE") == ["8501"]


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed; the image of TensorFlow Serving has it")
@pytest.mark.parametrize("state, code", [("AVAILABLE", 0), ("LOADING", 1)])
def test_the_health_check_of_the_compose_file(state, code):
    script = re.search(r"- \|\n((?: {10}.*\n)+)", COMPOSE)[1]
    with StubServer() as stub:
        stub.troubles = [lambda handler: handler.send(200, {"model_version_status": [{"version": "1", "state": state}]},
                                                      {"Connection": "close"})]
        port = str(stub.server_port)
        done = subprocess.run(["bash", "-c", re.sub("^ {10}", "", script, flags=re.MULTILINE).replace("8501", port)],
                              timeout=20)
    assert done.returncode == code


@pytest.mark.parametrize("number, answer", [
    (0, {"outputs": {"output": "21x7", "probability": 0.75}}),
    (1, {"predictions": [{"output": "21x7", "probability": 0.75}, {"output": "34x7", "probability": 0.75}]})])
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed; install it to run the commands")
def test_the_commands_with_curl(number, answer, tmp_path):
    blocks = [block for block in re.findall(r"^```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) if "curl " in block]
    assert len(blocks) == 2
    (tmp_path / "one.png").write_bytes(png(21))
    (tmp_path / "two.jpg").write_bytes(png(34))
    with StubServer() as stub:
        done = subprocess.run(["sh", "-c", blocks[number].replace(URL, stub.url)], cwd=tmp_path, capture_output=True,
                              text=True)
    assert json.loads(done.stdout) == answer, done.stderr


def test_the_client_in_python(tmp_path):
    code, = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(code.splitlines()) <= 12
    for width in (21, 34):
        (tmp_path / f"{width}.png").write_bytes(png(width))
    with StubServer() as stub:
        done = subprocess.run([sys.executable, "-c", code.replace(URL, stub.url), "34.png", "21.png"], cwd=tmp_path,
                              capture_output=True, text=True)
    assert done.stdout == "0.750000\t34x7\n0.750000\t21x7\n", done.stderr
