"""Draws a report's plots as SVG whose colours and font are the page's own, so that they follow light and dark."""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from aocr.evaluation.analysis import Analysis
from aocr.evaluation.reliability import BINS

# Colours that are replaced by the page's variables.
INK, MUTED, LINE, ACCENT, BAD, GOOD, CARD = (f"#0a0b{k:02x}" for k in range(7))
VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", ACCENT: "--accent", BAD: "--bad", GOOD: "--good",
             CARD: "--card"}
SETTINGS = {
    "svg.fonttype": "none", "font.size": 10, "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": LINE,
    "xtick.color": MUTED, "ytick.color": MUTED, "grid.color": LINE, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True,
    "xtick.major.size": 0, "ytick.major.size": 0, "xtick.major.pad": 6, "legend.frameon": False,
    "savefig.transparent": True, "axes.formatter.useoffset": False, "hatch.linewidth": 0.6,
}
INCHES = (4.4, 2.9)
MOST_GROUPS = 16  # of label lengths


def length_plot(analysis: Analysis) -> str:
    """Draws exact match and CER by label length, above the number of samples."""
    groups = _by_length(analysis)
    names = [str(low) if low == high else f"{low}–{high}" for low, high, _ in groups]
    with _style("length"):
        figure = Figure(INCHES, layout="constrained")
        above, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
        tallies = [tally for _, _, tally in groups]
        above.plot(names, [tally["exact"] / tally["samples"] for tally in tallies], color=ACCENT, marker="o",
                   markersize=4, label="exact match")
        above.plot(names, [min(tally["edits"] / max(tally["characters"], 1), 1.0) for tally in tallies], color=BAD,
                   marker="s", markersize=3.5, linestyle="--", label="CER")
        above.set(ylim=(-0.03, 1.03))
        above.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
        below.bar(names, [tally["samples"] for tally in tallies], color=MUTED, width=0.7)
        below.set(xlabel="characters of the label", ylabel="samples")
        below.tick_params(axis="x", rotation=60 if max(map(len, names)) > 2 and len(names) > 10 else 0)
        return _svg(figure)


def calibration_plot(analysis: Analysis) -> str:
    """Draws the share of exact matches among samples of like confidence, against that confidence; with a temperature,
    also without it.
    """
    bins = analysis.tally.reliability()
    with _style("calibration"):
        figure = Figure(INCHES, layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1.2, label="confidence as it should be")
        axes.bar([bin["least"] + 0.5 / BINS for bin in bins], [bin["exact_match"] for bin in bins], 0.92 / BINS,
                 color=ACCENT, alpha=0.35, label="exact match")
        axes.plot([bin["confidence"] for bin in bins], [bin["exact_match"] for bin in bins], color=ACCENT, marker="o",
                  markersize=4, linestyle="")
        if analysis.uncalibrated:
            before = analysis.uncalibrated.reliability()
            axes.plot([bin["confidence"] for bin in before], [bin["exact_match"] for bin in before], color=BAD,
                      marker="x", markersize=5, linestyle="--", linewidth=1, label="before calibration")
        axes.set(xlim=(-0.01, 1.01), ylim=(0, 1.03), xlabel="confidence")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
        return _svg(figure)


def confidence_plot(analysis: Analysis) -> str:
    """Draws how many samples have which confidence, correct and wrong ones."""
    tally = analysis.tally
    middles = [(k + 0.5) / BINS for k in range(BINS)]
    wrong = [count - exact for count, exact in zip(tally.binned, tally.binned_exact)]
    with _style("confidence"):
        figure = Figure(INCHES, layout="constrained")
        axes = figure.subplots()
        axes.bar(middles, tally.binned_exact, 0.92 / BINS, color=GOOD, label="correct")
        axes.bar(middles, wrong, 0.92 / BINS, bottom=tally.binned_exact, color=BAD, label="wrong", hatch="////",
                 edgecolor=CARD, linewidth=0)
        axes.set(xlim=(-0.01, 1.01), xlabel="confidence", ylabel="samples")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
        return _svg(figure)


def _by_length(analysis: Analysis) -> Sequence[tuple[int, int, dict[str, Any]]]:
    """Returns (shortest, longest, sums) of at most MOST_GROUPS groups of label lengths."""
    lengths = sorted(analysis.lengths)
    width = -(-(lengths[-1] - lengths[0] + 1) // MOST_GROUPS) if len(lengths) > MOST_GROUPS else 1
    groups: dict[int, dict[str, Any]] = {}
    for length in lengths:
        sums = groups.setdefault((length - lengths[0]) // width, dict(samples=0, exact=0, edits=0, characters=0))
        for name in sums:
            sums[name] += getattr(analysis.lengths[length], name)
    lows = {k: lengths[0] + k * width for k in groups}
    return [(lows[k], min(lows[k] + width - 1, lengths[-1]), sums) for k, sums in groups.items()]


def _style(plot):
    """Returns a context with the settings; plots of different names have no ids in common."""
    return matplotlib.rc_context(SETTINGS | {"svg.hashsalt": plot})


def _svg(figure):
    """Returns a figure as an SVG element with the page's colours and font."""
    FigureCanvasSVG(figure)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = file.getvalue()
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r'<style type="text/css">.*?</style>', "", svg, flags=re.DOTALL)  # would apply to the whole page
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # the same in every plot
    svg = re.sub(r"font: ([^;\"']*px) [^;\"]*", r"font: \1 var(--font)", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: var(--font)", svg)
    for color, variable in VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    return svg
