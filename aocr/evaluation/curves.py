"""Draws the curves of a training run from its history."""

import io
import itertools
import math

from aocr.errors import UserError
from aocr.files import load_json, read_bytes, write_bytes
from aocr.metrics import METRICS

KINDS = {"train": ("loss", "learning_rate"), "validation": tuple(METRICS)}  # kind of a history line -> values drawn
SHARES = tuple(name for name in METRICS if name != "loss")
COLORS = ("tab:green", "tab:olive", "tab:red", "tab:pink", "tab:gray", "tab:purple", "tab:brown", "tab:cyan")
MARKED = 100  # curves of at most this many points have markers
INCHES, DOTS = (10, 9), 100  # width and height; dots per inch
HIGHEST_SHARE = 1.05  # top of the shares' axis: a CER above 1 says no more than 1


def draw_curves(history_path: str, output_path: str) -> None:
    """Draws losses, exact match, character error rate and learning rate of a run to a PNG file, atomically.

    Args: history_path: as for `read_history`.
    Raises: UserError if the history cannot be read or the PNG cannot be written; ImportError without matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    history = read_history(history_path)
    figure = Figure(INCHES, DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    losses, shares, rates = figure.subplots(3, sharex=True, height_ratios=(3, 3, 1.5))
    positive = any(value > 0 for kind in history.values() for value in kind["loss"])
    losses.set(ylabel="loss", yscale="log" if positive else "linear")  # matplotlib warns of log without data
    shares.set(ylabel="share", ylim=(0, HIGHEST_SHARE))
    rates.set(ylabel="learning rate", xlabel="step")
    for axes, kind, name, label, color in (
            (losses, "train", "loss", "training", "tab:blue"),
            (losses, "validation", "loss", "validation", "tab:orange"),
            *((shares, "validation", name, METRICS[name].title, color)
              for name, color in zip(SHARES, itertools.cycle(COLORS))),
            (rates, "train", "learning_rate", "learning rate", "tab:blue")):
        steps, values = history[kind]["step"], history[kind][name]
        known = [value for value in values if math.isfinite(value)]
        # A single point draws no line.
        axes.plot(steps, values, color=color, linewidth=1, marker="o" if len(steps) <= MARKED else "", markersize=3,
                  label=f"{label}, last {known[-1]:.4g}" if known else f"{label}, none yet")
    for axes in (losses, shares, rates):
        axes.grid(alpha=0.3)
        # A fixed position: searching for the best one is slow with many points.
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, borderaxespad=0)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    try:
        write_bytes(output_path, file.getvalue())
    except OSError as error:
        raise UserError(f"{output_path}: cannot be written: {error.strerror or error}") from None


def read_history(path: str) -> dict[str, dict[str, list[float]]]:
    """Reads a run's history: one JSON object per line, identified by its `kind` and `step`.

    After a resume, steps recur: a line discards earlier lines of greater steps, and the earlier one of its kind and
    step. Lines and values that cannot be parsed, such as a truncated last line, are skipped.

    Returns: kind -> {"step": ints, ascending, and each name of KINDS: a value per step, NaN if it is not a number}.
    Raises: UserError if it cannot be read.
    """
    try:
        content = read_bytes(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    points = {kind: [] for kind in KINDS}  # of (step, values)
    for line in content.split(b"\n"):
        kind, step, values = _parse(line)
        if kind is None:
            continue
        for others in points.values():
            while others and others[-1][0] > step:
                others.pop()
        if points[kind] and points[kind][-1][0] == step:
            points[kind].pop()
        points[kind].append((step, values))
    return {kind: {"step": [step for step, _ in points[kind]],
                   **{name: [_number(values.get(name)) for _, values in points[kind]] for name in names}}
            for kind, names in KINDS.items()}


def _parse(line):
    """Parses a history line: (kind, step, dict of its values), or (None, None, None) if it is invalid."""
    try:
        values = load_json(line)
    except ValueError:
        return None, None, None
    if not isinstance(values, dict) or values.get("kind") not in tuple(KINDS) or type(values.get("step")) is not int:
        return None, None, None
    return values["kind"], values["step"], values


def _number(value):
    """Converts a JSON value to float; NaN if it is not a finite number."""
    try:
        value = float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:
        value = math.nan
    return value if math.isfinite(value) else math.nan
