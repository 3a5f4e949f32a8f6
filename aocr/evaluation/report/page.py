"""Renders report.html: one file without references to others."""

import base64
from collections.abc import Iterable
from typing import Any

import jinja2

from aocr.evaluation.analysis import FIGURES, Analysis
from aocr.evaluation.report.gallery import VALUES, Gallery, Shown
from aocr.evaluation.report.plots import calibration_plot, confidence_plot, length_plot

TILES = ("exact_match", "cer", "wer", "one_minus_ned", "mean_probability", "calibration_error")
MATRIX = 20  # most characters in the confusion matrix
PAIRS, CHARACTERS = 30, 200  # most lines of the tables of confusions and characters
PARTS = {"worst": "Worst", "confident": "Confidently wrong", "random": "Random"}
COLORS = VALUES.index("confidences")
NAMES = {" ": "␣", "\t": "⇥", "\u00a0": "⍽"}


def render(head: dict[str, Any], metrics: dict[str, float], analysis: Analysis, gallery: Gallery) -> str:
    """Returns the page.

    Args: head: facts on the test, metrics: values of FIGURES, both by name.
    """
    environment = jinja2.Environment(loader=jinja2.PackageLoader("aocr.evaluation.report", "template"), autoescape=True,
                                     trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= dict(figure=figure, share=share, named=named)
    rows = gallery.rows()
    return environment.get_template("report.html").render(
        head=head, metrics=metrics, figures=FIGURES, tiles=TILES, samples=analysis.tally.samples, listed=len(rows),
        colored=any(row.values[COLORS] for row in rows), plots=_plots(analysis), matrix=matrix(analysis),
        confusions=analysis.confused()[:PAIRS], characters=analysis.by_character()[:CHARACTERS], parts=PARTS,
        data=_data(gallery, rows))


def _plots(analysis):
    if not analysis.tally.samples:
        return {}
    return {
        "By length of the label": length_plot(analysis), "Calibration": calibration_plot(analysis),
        "Confidence": confidence_plot(analysis),
    }


def matrix(analysis: Analysis) -> dict[str, Any]:
    """Returns the confusion matrix of the characters that are confused most.

    Returns: columns: characters and "" (nothing); rows: (label's character, [(count, share of the row)] per column).
    """
    involved: dict[str, int] = {}
    for (label, text), count in analysis.confusions.items():
        for character in (label, text):
            involved[character] = involved.get(character, 0) + count
    involved.pop("", None)
    shown = sorted(sorted(involved, key=lambda c: (-involved[c], c))[:MATRIX])
    columns = [*shown, ""]
    return dict(columns=columns, rows=[(label, _matrix_row(analysis, label, columns)) for label in columns])


def _matrix_row(analysis, label, columns):
    counts = [analysis.correct[label] if text == label else analysis.confusions[label, text] for text in columns]
    whole = analysis.labelled[label] or 1
    return [(count, count / whole) for count in counts]


def _data(gallery: Gallery, rows: Iterable[Shown]) -> dict[str, Any]:
    """Returns what the page's script shows: its samples as lists, in the order of `fields`."""
    return dict(fields=(*VALUES, "picture", "attention"), rows=[_values(row) for row in rows],
                gallery={name: [_values(card) for card in cards] for name, cards in gallery.parts().items()})


def _values(shown: Shown):
    values = [*shown.values, base64.b64encode(shown.picture).decode()]
    if shown.attention is not None:
        values.append([shown.attention.shape[1], base64.b64encode(shown.attention.tobytes()).decode()])
    return values


def figure(value: Any, name: str = "") -> str:
    """Formats the value of a figure: counts whole, shares and rates in percent."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:.4f}" if name == "loss" else share(value)


def share(value: float | None) -> str:
    """Formats a share in percent; a dash for None."""
    return "–" if value is None else f"{100 * value:.1f}%"


def named(character: str) -> str:
    """Returns how the page writes a character: blanks visibly, nothing as ∅."""
    return NAMES.get(character, character) or "∅"
