"""Seconds that a cold process takes: `aocr --help`, `import tensorflow`, and `aocr predict` of one file, in turn.

    python benchmarks/start_up.py --model-dir MODEL IMAGE
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

ROUNDS = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("--model-dir", required=True)
    args = parser.parse_args()
    aocr = [os.path.join(os.path.dirname(sys.executable), "aocr")]
    commands = {
        "aocr --help": [*aocr, "--help"],
        "import tensorflow": [sys.executable, "-c", "import tensorflow.compat.v1"],
        "aocr predict": [*aocr, "predict", "--model-dir", args.model_dir, "--log-path", "", args.image],
    }
    seconds = {name: [] for name in commands}
    for number in range(-1, ROUNDS):  # the first round fills the disk cache
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if number >= 0:
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name}: {median:.2f} s, {min(seconds[name]):.2f} to {max(seconds[name]):.2f}")
    print(f"predict beyond the import: {medians['aocr predict'] - medians['import tensorflow']:.2f} s")


if __name__ == "__main__":
    main()
