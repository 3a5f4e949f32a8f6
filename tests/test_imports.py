"""Heavy imports, and the dependencies between modules."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import aocr

PACKAGE = Path(aocr.__file__).parent
HEAVY = ("tensorflow", "numpy", "PIL", "keras", "tqdm", "matplotlib", "jinja2")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["test", "--help"],
                                       ["predict", "--help"], ["export", "--help"], ["dataset", "--help"],
                                       ["inspect", "--help"], ["augment", "--help"], ["synth", "--help"],
                                       ["compare", "--help"], ["calibrate", "--help"],
                                       ["bogus"]])
def test_help_imports_nothing_heavy(arguments):
    code = ("import sys; from aocr.cli import main\n"
            "try:\n    main(sys.argv[1:])\n"
            "except SystemExit:\n    pass\n"
            f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "[]"
    assert ("usage: aocr" in done.stdout + done.stderr) or aocr.__version__ in done.stdout


def modules():
    """Maps each module to the aocr modules that it imports anywhere in its code."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = ("aocr", *path.relative_to(PACKAGE).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        imports = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imports |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: relative import"
                imports |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        found[name] = {module for module in imports if module.split(".")[0] == "aocr"}
    return {name: {module for module in imports if module in found and module not in ("aocr", name)}
            for name, imports in found.items()}


def test_dependencies_go_one_way():
    imports = modules()

    def below(name, path=()):
        assert name not in path, f"import circle: {' -> '.join((*path, name))}"
        for module in imports[name]:
            below(module, (*path, name))

    for name in imports:
        below(name)


@pytest.mark.parametrize("wing, may_not_know", [
    ("aocr.graph", ("aocr.data", "aocr.model", "aocr.tasks", "aocr.training", "aocr.commands", "aocr.evaluation")),
    ("aocr.data", ("aocr.graph", "aocr.model", "aocr.tasks", "aocr.training", "aocr.commands", "aocr.evaluation")),
    ("aocr.synth", ("aocr.graph", "aocr.model", "aocr.tasks", "aocr.training", "aocr.commands", "aocr.evaluation")),
    ("aocr.augment", ("aocr.graph", "aocr.data", "aocr.model", "aocr.tasks", "aocr.training", "aocr.commands")),
    ("aocr.evaluation", ("aocr.graph", "aocr.data", "aocr.model", "aocr.tasks", "aocr.training", "aocr.commands")),
    ("aocr.model", ("aocr.tasks", "aocr.training", "aocr.commands", "aocr.evaluation", "aocr.original",
                    "aocr.checkpoint")),
    ("aocr.training", ("aocr.tasks", "aocr.commands")),
    ("aocr.tasks", ("aocr.training", "aocr.commands")),
])
def test_wings_do_not_know_each_other(wing, may_not_know):
    for name, imports in modules().items():
        if name.startswith(wing):
            assert not [m for m in imports if m.startswith(may_not_know)], name


def test_evaluation_needs_no_tensorflow():
    code = ("import sys, aocr.metrics, aocr.evaluation.visualize, aocr.evaluation.curves, "
            "aocr.evaluation.report.writer, aocr.evaluation.comparison, aocr.tasks.compare; "
            "assert not {'tensorflow', 'matplotlib', 'jinja2'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True)
