"""What a server with TensorFlow Serving's REST interface answers, as readings."""

import json
from typing import Any

from aocr.prediction import Alternative, Character, Hypothesis, Reading

DEFAULT, DETAIL = "serving_default", "serving_detail"  # signatures of an export


class NotOurs(ValueError):
    """Raised for an answer that is not that of a model of `aocr`; the message says what it lacks."""


def load(content: bytes) -> dict[str, Any]:
    """Returns the JSON object of an answer. Raises: NotOurs."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise NotOurs("is not JSON") from None
    if not isinstance(document, dict):
        raise NotOurs("is not an object of JSON")
    return document


def error_in(content: bytes) -> str:
    """Returns the message of an answer that is an error, as it is; of another server, the start of its page."""
    try:
        return str(load(content)["error"])
    except (NotOurs, KeyError):
        return content[:200].decode("utf-8", "replace")


def signatures_in(content: bytes) -> set[str]:
    """Returns the signatures of a model's metadata that take images and return texts. Raises: NotOurs."""
    try:
        found = load(content)["metadata"]["signature_def"]["signature_def"]
        return {name for name, signature in found.items()
                if list(signature["inputs"]) == ["input"] and {"output", "probability"} <= set(signature["outputs"])}
    except (KeyError, TypeError, AttributeError):
        raise NotOurs("lists no signatures") from None


def readings_in(content: bytes, count: int) -> list[Reading]:
    """Returns the readings of an answer to `count` images, in row format. Raises: NotOurs."""
    rows = load(content).get("predictions")
    if not isinstance(rows, list) or len(rows) != count:
        raise NotOurs(f"does not hold {count} predictions")
    try:
        return [_reading(row) for row in rows]
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise NotOurs(f"holds predictions of another form ({type(error).__name__}: {error})") from None


def _reading(row):
    text = _text(row["output"])
    hypotheses = tuple(Hypothesis(_text(other), float(probability)) for other, probability in zip(
        row.get("hypotheses", ()), row.get("hypothesis_probabilities", ())))
    return Reading(text, float(row["probability"]), _characters(row) if "characters" in row else (), hypotheses)


def _characters(row):
    """Returns the characters of a text, which end at the first empty one."""
    found = []
    for k, text in enumerate(map(_text, row["characters"])):
        if not text:
            break
        left, right = row["edges"][k]
        alternatives = tuple(Alternative(_text(other), float(probability)) for other, probability in zip(
            row["alternatives"][k], row["alternative_probabilities"][k]) if other)
        found.append(Character(text, float(row["confidences"][k]), alternatives, float(left), float(right)))
    return tuple(found)


def _text(value):
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} in place of a text")
    return value
