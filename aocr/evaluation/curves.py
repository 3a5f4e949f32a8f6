"""The curves of a training run, drawn from its history."""

import io
import itertools
import math

from aocr.errors import UserError
from aocr.evaluation.metrics import METRICS
from aocr.files import load_json, read_bytes, write_bytes

KINDS = {"train": ("loss", "learning_rate"), "validation": tuple(METRICS)}  # kind of a history's lines -> values drawn
SHARES = tuple(name for name in METRICS if name != "loss")
COLORS = ("tab:green", "tab:olive", "tab:red", "tab:pink", "tab:gray", "tab:purple", "tab:brown", "tab:cyan")
MARKED = 100  # points of a curve that are marked one by one, at the most
INCHES, DOTS = (10, 9), 100  # width and height; dots an inch
HIGHEST_SHARE = 1.05  # of the shares' axis: a character error rate beyond 1 says no more than 1


def draw_curves(history_path: str, output_path: str) -> None:
    """Draws losses, exact match, character error rate and learning rate of a run as a PNG file, complete at once.

    Args: history_path: as for `read_history`.
    Raises: UserError if one cannot be read, or the other not be written; ImportError without matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    history = read_history(history_path)
    figure = Figure(INCHES, DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    losses, shares, rates = figure.subplots(3, sharex=True, height_ratios=(3, 3, 1.5))
    positive = any(value > 0 for kind in history.values() for value in kind["loss"])
    losses.set(ylabel="loss", yscale="log" if positive else "linear")  # without data matplotlib warns of the first
    shares.set(ylabel="share", ylim=(0, HIGHEST_SHARE))
    rates.set(ylabel="learning rate", xlabel="step")
    for axes, kind, name, label, color in (
            (losses, "train", "loss", "training", "tab:blue"),
            (losses, "validation", "loss", "validation", "tab:orange"),
            *((shares, "validation", name, METRICS[name].title, color) for name, color in zip(SHARES, itertools.cycle(COLORS))),
            (rates, "train", "learning_rate", "learning rate", "tab:blue")):
        steps, values = history[kind]["step"], history[kind][name]
        known = [value for value in values if math.isfinite(value)]
        # One point alone is no line.
        axes.plot(steps, values, color=color, linewidth=1, marker="o" if len(steps) <= MARKED else "", markersize=3,
                  label=f"{label}, last {known[-1]:.4g}" if known else f"{label}, none yet")
    for axes in (losses, shares, rates):
        axes.grid(alpha=0.3)
        # A place of its own: to look for the best one takes long where there are many points.
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, borderaxespad=0)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    try:
        write_bytes(output_path, file.getvalue())
    except OSError as error:
        raise UserError(f"{output_path}: cannot be written: {error.strerror or error}") from None


def read_history(path: str) -> dict[str, dict[str, list[float]]]:
    """Reads a run's history: a JSON object a line, of which `kind` and `step` say what it is.

    After a resume, steps come again: a line makes earlier ones of greater steps void, and the one of its kind and step.
    Lines and values that are not understood, such as a last line that was cut, are passed over.

    Returns: kind -> {"step": ints, rising, and each name of KINDS: as many values, NaN where there is no number}.
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
    """A line of a history -> (kind, step, dict of its values), or thrice None if it is none."""
    try:
        values = load_json(line)
    except ValueError:
        return None, None, None
    if not isinstance(values, dict) or values.get("kind") not in tuple(KINDS) or type(values.get("step")) is not int:
        return None, None, None
    return values["kind"], values["step"], values


def _number(value):
    """A JSON value as a float; NaN if it is no finite number."""
    try:
        value = float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:
        value = math.nan
    return value if math.isfinite(value) else math.nan
