"""Runs random command lines over random files, directories and devices in a sandbox, and reports what none may do.

That is: print a traceback, not end (even after SIGTERM), end with another exit code than 0, 1 or 2, or change a file
that was there before and that the command does not own.

    python benchmarks/fuzz_commands.py --seconds 600 --seed 1
    python benchmarks/fuzz_commands.py --case 1:57    # one case again, with its output
"""

import argparse
import hashlib
import os
import random
import re
import shutil
import signal
import stat
import sys
import tempfile
import time

from PIL import Image, ImageDraw

from aocr.data.lengths import masked_crc

COMMANDS = ("synth", "dataset", "inspect", "augment", "train", "test", "predict", "export")
LAST = 75.0  # seconds that it then has
FORBIDDEN = re.compile(r"Traceback|Exception ignored|internal error|Fatal Python|Logging error|terminate called")
EMPTY = hashlib.sha256(b"").hexdigest()  # an empty file may be replaced, and a log appended to it
DEVICES = dict(null=3, zero=5, full=7)  # minor numbers
WORDS = ("A1", "B27", "7", "K90", "W0")
NUMBERS = ("0", "1", "2", "3", "-1", "7", "100", "9999999999", "1e9", "nan", "inf", "-0", "0.5", "0.01", "x", "", "²")
TEXTS = ("", "x", "a b", "Ж", "\udcff", "a\nb", "-", "--", "*", "[", "?", "(", "[0-9]{3}", "(.*)", "0.9/0.1", "ps=1",
         "s3://bucket/x", "https://host/x", "gs:/x", "://", "no/such/file", ".", "A" * 300,
         "\u202e", "red", "#12345", "light")
SMALL = dict(count=("1", "3"), max_steps=("1", "2"), num_epoch=("1",), workers=("1", "2"), attn_num_hidden=("4",),
             max_minutes=("0.01", "0.05"), attn_num_layers=("1", "2"), accumulate=("1", "2"), variants=("1", "2"),
             max_width=("30", "200"), max_height=("32", "60"), shards=("1", "2", "7"), target_embedding_size=("3",))
LEFT_OUT = ("help", "version", "runner", "local_cluster", "gpus", "sync", "evaluator")


def make_materials(where: str, model: bool) -> None:
    """Fills the sandbox's template. `model`: with a dataset and a model, made with aocr itself."""
    os.makedirs(os.path.join(where, "pictures"))
    lines = []
    for word in WORDS:
        image = Image.new("L", (60, 32), 255)
        ImageDraw.Draw(image).text((4, 8), word, fill=0)
        image.save(os.path.join(where, "pictures", f"{word}.png"))
        lines.append(f"pictures/{word}.png\t{word}\n")
    noise = random.Random(0).randbytes(700)
    length = (10**12).to_bytes(8, "little")
    for name, content in {
            "list.tsv": "".join(lines).encode(), "words.txt": "\n".join(WORDS).encode(), "notes.txt": b"precious\n",
            "empty": b"", "noise.png": noise, "noise.tfrecords": noise, "noise.json": b'{"rotation": ',
            "b[1]*.txt": b"x", "recipe.json": b'{"rotation": 5}', "line\nbreak.png": noise, "x.part": b"precious",
            "huge.tfrecords": length + masked_crc(length).to_bytes(4, "little") + noise,
            "train.json": b'{"precious": 1}', "utf16.txt": "".join(lines).encode("utf-16"),
            "bad.csv": b'image,label\n"pictures/A1.png,A1\npictures/7.png,7\n',
            "nul.tsv": b"a\0b\tx\n\0\t\0\n"}.items():
        with open(os.path.join(where, name), "wb") as file:
            file.write(content)
    with open(os.fsencode(where) + b"/latin-\xff.txt", "wb") as file:
        file.write("".join(lines).encode())
    os.mkdir(os.path.join(where, "hollow"))
    for name, target in (("link", "notes.txt"), ("dangling", "nowhere"), ("loop", "loop"),
                         ("folder-link", "pictures")):
        os.symlink(target, os.path.join(where, name))
    os.mkfifo(os.path.join(where, "fifo"))
    if not os.geteuid():  # devices of the sandbox: a fault must not reach those of the machine
        for name, minor in DEVICES.items():
            os.mknod(os.path.join(where, name), 0o666 | stat.S_IFCHR, os.makedev(1, minor))
    if model:
        for line in (["dataset", "list.tsv", "data.tfrecords"],
                     ["train", "data.tfrecords", "--model-dir", "model", "--max-steps", "2", "--attn-num-hidden", "4"],
                     ["export", "exported", "--model-dir", "model"]):
            code, errors = run([*line, "--log-path", ""], where, None)[:2]
            if code:
                sys.exit(f"{line}: {errors}")


def command_line(chance: random.Random, commands: list[str], names: list[str]) -> list[str]:
    """Returns a random command line."""
    from aocr.cli import build_parser

    parsers = next(action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    command = chance.choice(commands)
    line, positional = [command], []
    new = f"new-{chance.randrange(3)}"

    def path():
        return chance.choice([chance.choice(names), chance.choice(names), new, chance.choice(TEXTS)])

    likely = {"dataset": "data.tfrecords", "directory": new, "output": f"{new}.png", "model_dir": "model"}
    for action in parsers.choices[command]._actions:
        if action.dest in LEFT_OUT or action.help == argparse.SUPPRESS:
            continue
        if not action.option_strings:
            wanted = chance.randrange(1, 3) if action.nargs in ("+", "*") else 1
            positional += [likely[action.dest] if action.dest in likely and chance.random() < 0.5 else path()
                           for _ in range(wanted)]
        elif action.dest in ("model_dir", "log_path", "max_steps") or chance.random() < 0.08:
            line.append(action.option_strings[0])
            if action.nargs == 0:
                continue
            if action.dest in SMALL:
                line.append(chance.choice(SMALL[action.dest] if chance.random() < 0.9 else NUMBERS))
            elif action.choices:
                line.append(chance.choice([*action.choices, "x"]))
            elif action.type in (int, float):
                line.append(chance.choice(NUMBERS))
            elif action.dest == "log_path" and chance.random() < 0.7:
                line.append("")
            else:
                line.append(likely[action.dest] if action.dest in likely and chance.random() < 0.6 else path())
    return [*line, *(["--"] if chance.random() < 0.1 else []), *positional]


def run(line: list[str], where: str, given: bytes | None, patience: float = 300.0) -> tuple[int, str, float]:
    """Runs `aocr` in a child of this process, which has imported TensorFlow already.

    Args: where: working directory. given: to stdin; None: it is closed. patience: seconds until it gets SIGTERM.
    Returns: (exit code, messages, seconds). A code of -9 means that it did not end after SIGTERM.
    """
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as source:
        source.write(given or b"")
        source.seek(0)
        began, child = time.monotonic(), os.fork()
        if not child:
            os.setsid()
            os.chdir(where)
            os.dup2(errors.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(source.fileno(), 0)
            if given is None:
                os.close(0)
            _become(line)
        code = _wait(child, patience)
        if code is None:
            os.kill(child, signal.SIGTERM)
            code = _wait(child, LAST)
        if code is None:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            code = -signal.SIGKILL
        errors.seek(0)
        return code, errors.read().decode(errors="replace"), time.monotonic() - began


def _become(line):
    """Runs the program in this process, and ends it."""
    from aocr.__main__ import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv, code = ["aocr", *line], 70
    try:
        code = main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def _wait(child, seconds):
    """Returns the exit code of a child, None if it does not end in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def contents(where: str) -> dict[str, str]:
    """Returns what is below a directory: path -> kind and digest."""
    found = {}
    for place, folders, files in os.walk(where):
        for name in folders + files:
            path = os.path.join(place, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                found[path] = f"link {os.readlink(path)}"
            elif stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    found[path] = hashlib.sha256(file.read()).hexdigest()
            else:
                found[path] = str(stat.S_IFMT(mode))
    return {os.path.relpath(path, where): value for path, value in found.items()}


def owned(line: list[str]) -> tuple[str, ...]:
    """Returns the beginnings of the names of existing files that a command line may change."""
    given = dict(zip(line, line[1:]))
    log_path = given.get("--log-path", "aocr.log")
    mine = [log_path] if log_path.endswith((".log", ".txt", ".tsv", ".png", ".json")) else []
    if line[0] == "train":
        mine.append(given.get("--model-dir", "checkpoints") + "/")
    if line[0] == "export" and "--force" in line:
        mine.append("exported")
    if line[0] == "dataset":
        mine.append("data.tfrecords")
    if line[0] == "augment" or "--sheet" in line:
        mine += [name for name in line if name.endswith(".png")]
    return tuple(os.path.normpath(name) for name in mine if name)


def problems(line, code, errors, before, after):
    """Returns what is wrong with the outcome of a case."""
    found = []
    if FORBIDDEN.search(errors):
        found.append("traceback")
    waits = "fifo" in line and code == 143  # nobody writes to it; SIGTERM ended the waiting
    if code not in (0, 1, 2) and not waits:
        found.append(f"exit code {code}")
    if code in (1, 2) and not errors.strip():
        found.append("no message")
    changed = [name for name, value in before.items()
               if after.get(name) != value and value != EMPTY and not name.startswith(owned(line))]
    return found + [f"changed {name!r}" for name in changed]


def one_case(seed: int, number: int, commands: list[str], template: str, names: list[str], patience: float,
             show: bool) -> list[str]:
    """Runs one case in a copy of the template. Returns its problems."""
    chance = random.Random(f"{seed}:{number}")
    line = command_line(chance, commands, names)
    given = chance.choice([None, b"", b"pictures/A1.png\nfifo\n\xff\nnoise.png\n", b"pictures/7.png\t7\n", bytes(99)])
    with tempfile.TemporaryDirectory() as place:
        sandbox = os.path.join(place, "sandbox")
        _copy(template, sandbox)
        before = contents(sandbox)
        code, errors, seconds = run(line, sandbox, given, patience)
        found = problems(line, code, errors, before, contents(sandbox))
    if seconds > patience:
        print(f"{seed}:{number} took {seconds:.0f} s: {line}")
    if found or show:
        print(f"{seed}:{number} {', '.join(found)}: {line} < {given}\n  code {code}, {seconds:.1f} s; "
              + "\n  ".join(errors.splitlines()[-40:]), flush=True)
    return found


def _copy(template, sandbox):
    """Copies a template. Not `shutil.copytree`, which reads from FIFOs and devices."""
    os.mkdir(sandbox)
    for name in os.listdir(template):
        source, target = os.path.join(template, name), os.path.join(sandbox, name)
        state = os.lstat(source)
        if stat.S_ISFIFO(state.st_mode) or stat.S_ISCHR(state.st_mode):
            os.mknod(target, state.st_mode, state.st_rdev)
        elif os.path.isdir(source) and not os.path.islink(source):
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy2(source, target, follow_symlinks=False)


def main() -> int:
    """Runs cases until the time is over. Returns 1 if one has a problem."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--patience", type=float, default=30.0, help="seconds until a command gets SIGTERM")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--case", help="SEED:NUMBER of a case to repeat, with the same --commands")
    args = parser.parse_args()
    heavy = args.commands != ["synth"]
    if heavy:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import tensorflow  # noqa: F401
    with tempfile.TemporaryDirectory() as template:
        make_materials(template, model=heavy)
        names = sorted(name for name in os.listdir(template))
        if args.case:
            seed, number = map(int, args.case.split(":"))
            return bool(one_case(seed, number, args.commands, template, names, args.patience, show=True))
        end, cases, bad = time.monotonic() + args.seconds, 0, 0
        while time.monotonic() < end:
            bad += bool(one_case(args.seed, cases, args.commands, template, names, args.patience, show=False))
            cases += 1
    print(f"{cases} cases, {bad} with problems")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
