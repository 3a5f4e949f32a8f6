"""Compares a training run killed with SIGKILL at random times with an undisturbed one.

    python benchmarks/kill.py [--kills 20] [--steps 300] [--seed 1]

After each kill every tensor of the newest and the best checkpoint is read; at the end all variables of both runs are
compared. Kill times are uniform from the start of a process to some seconds into training, during which checkpoints
are written constantly.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time

import numpy as np

from aocr.commands.runtime import quiet_tensorflow

FLAGS = ["--attn-num-hidden", "8", "--batch-size", "4", "--steps-per-checkpoint", "2", "--validation-split", "0.1",
         "--validate-every", "4", "--keep", "2", "--deterministic", "--log-path", ""]
TRAINING_SECONDS = 8.0  # after the first step; the kill comes no later


def aocr(*arguments, **settings):
    """Starts a command of aocr."""
    return subprocess.Popen([sys.executable, "-m", "aocr", *arguments], stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True, **settings)


def read(directory):
    """Returns {name: value} of a directory's newest checkpoint, or None. Raises TensorFlow's errors."""
    import tensorflow.compat.v1 as tf

    path = tf.train.latest_checkpoint(directory)
    if not path:
        return None
    reader = tf.train.load_checkpoint(path)
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def train_and_kill(dataset, model_dir, steps, moment):
    """Trains; kills the process after `moment` seconds, if that is not None. Returns (killed, seconds)."""
    started = time.monotonic()
    process = aocr("train", dataset, "--model-dir", model_dir, "--max-steps", str(steps), *FLAGS)
    try:
        _, error = process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True, time.monotonic() - started
    if process.returncode:
        sys.exit(f"a run exited with code {process.returncode}: {error}")
    return False, time.monotonic() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    moments = random.Random(args.seed)
    quiet_tensorflow()
    with tempfile.TemporaryDirectory() as directory:
        words, dataset = os.path.join(directory, "words"), os.path.join(directory, "data.tfrecords")
        alone, killed = os.path.join(directory, "alone"), os.path.join(directory, "killed")
        for command in (["synth", words, "--count", "90", "--pattern", "[0-9]{2}"],
                        ["dataset", os.path.join(words, "annotations.txt"), dataset]):
            aocr(*command, "--log-path", "").communicate()
        _, startup = train_and_kill(dataset, os.path.join(directory, "first"), 1, None)
        _, seconds = train_and_kill(dataset, alone, args.steps, None)
        print(f"alone: {args.steps} steps in {seconds:.0f} s, the first after about {startup:.0f} s", flush=True)
        kills = before_first = 0
        while kills < args.kills:
            still, seconds = train_and_kill(dataset, killed, args.steps,
                                            moments.uniform(0, startup + TRAINING_SECONDS))
            if not still:
                print(f"the run ended before the next kill; increase --steps for {args.kills} kills")
                break
            kills += 1
            newest, best = read(killed), read(os.path.join(killed, "best"))
            before_first += newest is None
            step = int(newest["global_step"]) if newest else 0
            print(f"kill {kills} after {seconds:.1f} s: checkpoint {step or 'none yet'}, best "
                  f"{int(best['global_step']) if best else 'none yet'}", flush=True)
        train_and_kill(dataset, killed, args.steps, None)
        one, other = read(alone), read(killed)
        states = [json.loads(values.pop("training/state")) for values in (one, other)]
        different = [name for name in one if not np.array_equal(one[name], other[name])]
        print(f"kills: {kills}, {before_first} of them before the first checkpoint\nunreadable checkpoints: 0\n"
              f"steps: {int(one['global_step'])} and {int(other['global_step'])}\n"
              f"variables that differ: {len(different)} of {len(one)}\n"
              f"states equal: {states[0] == states[1]}")
        return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
