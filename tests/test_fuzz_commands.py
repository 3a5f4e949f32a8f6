"""A short run of the fuzz of command lines, with the command that needs no TensorFlow."""

import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).parents[1] / "benchmarks" / "fuzz_commands.py"


def test_no_command_line_gives_a_traceback_or_changes_what_is_not_its_own():
    done = subprocess.run([sys.executable, str(FUZZ), "--seconds", "3", "--seed", "5", "--patience", "5",
                           "--commands", "synth"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-5]) >= 3
