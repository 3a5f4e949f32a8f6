"""The text of answers, spelled as TensorFlow Serving spells it."""

import base64
import json
from typing import Any, NamedTuple

from aocr.serving.contract import Problem
from aocr.serving.rapid_json import decimal

INDENT = "    "


class Output(NamedTuple):
    """An output of a graph: nested lists of bytes, numbers or truth values, with their shape."""

    value: Any
    shape: tuple[int, ...]
    single: bool = False  # whether the values are float32


def error_text(message: str) -> str:
    """Returns the body of an error."""
    return json_text({"error": message})


def json_text(value: Any) -> str:
    """Returns a JSON value as text, indented by 4 blanks."""
    return json.dumps(value, ensure_ascii=False, indent=4).encode("utf-8", "replace").decode()


def predictions_text(outputs: dict[str, Output], row: bool) -> str:
    """Returns the answer to a predict request, in the row or the column form.

    A single output goes without its name. Raises: Problem if the outputs have no common number of rows.
    """
    named = len(outputs) > 1
    if not row:
        return _columns(outputs, named)
    count = -1
    for name, output in outputs.items():
        if not output.shape:
            raise Problem(400, f"Tensor name: {name} has no shape information ")
        if count >= 0 and output.shape[0] != count:
            raise Problem(400, f"Tensor name: {name} has inconsistent batch size: {output.shape[0]} expecting: {count}")
        count = output.shape[0]
    items = []
    for k in range(count):
        texts = {name: _text(output.value[k], name, output.single) for name, output in outputs.items()}
        items.append(_object_text(texts, 2) if named else next(iter(texts.values())))
    inner = ",".join(f"\n{INDENT * 2}{item}" for item in items)
    return f'{{\n{INDENT}"predictions": [{inner}\n{INDENT}]\n}}'


def _columns(outputs, named):
    texts = {name: _text(output.value, name, output.single) for name, output in outputs.items()}
    value = _object_text(texts, 1) if named else next(iter(texts.values()))
    return f'{{\n{INDENT}"outputs": {value}\n}}'


def _object_text(texts, level):
    inner = ",".join(f"\n{INDENT * (level + 1)}{json.dumps(name)}: {text}" for name, text in texts.items())
    return f"{{{inner}\n{INDENT * level}}}"


def _text(value, name, single):
    if isinstance(value, list):
        return f"[{', '.join([_text(item, name, single) for item in value])}]"
    if isinstance(value, bytes):
        if name.endswith("_bytes"):
            return f'{{"b64": "{base64.b64encode(value).decode()}"}}'
        return json.dumps(value.decode("utf-8", "replace"), ensure_ascii=False)
    return decimal(value, single) if isinstance(value, float) else json.dumps(value)
