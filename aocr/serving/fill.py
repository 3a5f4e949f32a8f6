"""Tensors from the JSON values of a request, by TensorFlow Serving's rules and with its messages."""

import base64
import binascii
import math
import re
from typing import Any, NamedTuple, NoReturn

from aocr.serving.rapid_json import Object, quoted, type_name

INTEGERS = {"DT_INT8": (-2**31, 2**31 - 1), "DT_UINT8": (-2**31, 2**31 - 1), "DT_INT16": (-2**31, 2**31 - 1),
            "DT_INT32": (-2**31, 2**31 - 1), "DT_INT64": (-2**63, 2**63 - 1),
            "DT_UINT32": (0, 2**32 - 1), "DT_UINT64": (0, 2**64 - 1)}  # type -> what the server accepts
DECIMALS = {"DT_FLOAT": (2**24 - 1, 3.4028234663852886e38), "DT_DOUBLE": (2**53 - 1, 1.7976931348623157e308)}
NAMES = {"DT_FLOAT": "float", "DT_DOUBLE": "double"}
STRING = "DT_STRING"
MOST_DIMENSIONS = 32  # of a value; TensorFlow has 254, NumPy 64
BLANKS = re.compile(r"[ \t\n\r\v\f]+")
STANDARD = re.compile(r"[A-Za-z0-9+/]*={0,2}")
PADDING = {0: (0,), 2: (0, 2), 3: (0, 1)}  # characters in the last group of 4 -> padding that may follow


class InvalidRequest(ValueError):
    """Raised for a request that the contract does not allow: `InvalidRequest(message)`."""


class Tensor(NamedTuple):
    """A dense tensor: its values in row-major order, its shape and its type (DT_STRING ...)."""

    values: list[Any]
    shape: tuple[int, ...]
    dtype: str


def is_base64(value: Any) -> bool:
    """Returns whether a parsed value is an object that holds base64 and nothing else."""
    return isinstance(value, Object) and value.members == 1 and isinstance(value.get("b64"), str)


def from_inputs(value: Any, types: dict[str, str]) -> dict[str, Tensor]:
    """Returns the tensors of the column form. `types`: of the inputs, by name. Raises: InvalidRequest."""
    if isinstance(value, Object) and not is_base64(value):
        for name in types:
            if name not in value:
                raise InvalidRequest(f"Missing named input: {name} in 'inputs' object.")
        return {name: tensor(value[name], dtype) for name, dtype in types.items()}
    if len(types) > 1:
        raise InvalidRequest("inputs is a plain value/list, but expecting an object as multiple input tensors required "
                             "as per tensorinfo_map")
    (name, dtype), = types.items()
    return {name: tensor(value, dtype)}


def from_instances(instances: list[Any], types: dict[str, str]) -> dict[str, Tensor]:
    """Returns the tensors of the row form, with a leading dimension of one row for each instance.

    Args: types: of the inputs, by name. Raises: InvalidRequest.
    """
    if not isinstance(instances[0], Object) and len(types) > 1:
        raise InvalidRequest("instances is a plain list, but expecting list of objects as multiple input tensors "
                             "required as per tensorinfo_map")
    named = _is_named(instances[0])
    rows: dict[str, list[Tensor]] = {name: [] for name in types}
    for number, instance in enumerate(instances):
        if named != _is_named(instance):
            what = "object but got list" if named else "value/list but got object"
            raise InvalidRequest(f"Expecting {what} at item {number} of input list")
        if named:
            _add_named(instance, number, types, rows)
        else:
            (name, dtype), = types.items()
            _add(rows, name, instance, dtype, f"Failed to process element: {number} of 'instances' list.")
    return {name: Tensor([value for row in tensors for value in row.values], (len(tensors), *tensors[0].shape),
                         types[name]) for name, tensors in rows.items()}


def _is_named(instance):
    return isinstance(instance, Object) and not is_base64(instance)


def _add_named(instance, number, types, rows):
    for name, value in instance.items():
        where = f"Failed to process element: {number} key: {name} of 'instances' list."
        _add(rows, name, value, types.get(name), where)
    if set(instance) != set(types):
        raise InvalidRequest(f"Failed to process element: {number} of 'instances' list. JSON object: "
                             f"{quoted(instance)} keys must be equal to: {','.join(sorted(types))}")


def _add(rows, name, value, dtype, where):
    """Adds the tensor of one row; `where` begins the message of an error."""
    try:
        if dtype is None:
            raise InvalidRequest(f"JSON object: does not have named input: {name}")
        new = tensor(value, dtype)
        if rows[name] and len(rows[name][0].values) != len(new.values):
            raise InvalidRequest(f"Expecting tensor size: {len(rows[name][0].values)} but got: {len(new.values)}")
        if rows[name] and rows[name][0].shape != new.shape:
            raise InvalidRequest(f"Expecting shape {_shape_text(rows[name][0].shape)} but got: "
                                 f"{_shape_text(new.shape)}")
    except InvalidRequest as error:
        raise InvalidRequest(f"{where} Error: INVALID_ARGUMENT: {error}") from None
    rows[name].append(new)


def _shape_text(shape):
    return f"[{','.join(map(str, shape))}]"


def tensor(value: Any, dtype: str) -> Tensor:
    """Returns the tensor of a value or of nested lists. Raises: InvalidRequest."""
    shape, inner = [], value
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    if len(shape) > MOST_DIMENSIONS:
        raise InvalidRequest(f"Too many dimensions in tensor: {len(shape)}; the limit is {MOST_DIMENSIONS}")
    values: list[Any] = []
    _fill(value, 0, dtype, shape, values)
    return Tensor(values, tuple(shape), dtype)


def _fill(value, level, dtype, shape, values):
    if not isinstance(value, list):
        if level != len(shape):
            raise InvalidRequest(f"JSON Value: {quoted(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                                 f"Expected at level: {len(shape)}")
        values.append(_converted(value, dtype))
        return
    if level >= len(shape):
        raise InvalidRequest(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise InvalidRequest(f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
                             f"{shape[level]}")
    for item in value:
        _fill(item, level + 1, dtype, shape, values)


def _converted(value, dtype):
    """Returns the Python value of a tensor's element."""
    if dtype == STRING:
        if isinstance(value, Object):
            return decoded(value)
        return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else _type_error(value, dtype)
    if dtype == "DT_BOOL":
        return value if isinstance(value, bool) else _type_error(value, dtype)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if dtype in DECIMALS:
        return _decimal(value, dtype) if number else _type_error(value, dtype)
    least, most = INTEGERS[dtype]
    if number and isinstance(value, int) and least <= value <= most:
        return value
    return _type_error(value, dtype)


def _decimal(value, dtype):
    whole, most = DECIMALS[dtype]
    exact = abs(value) <= whole if isinstance(value, int) else not math.isfinite(value) or abs(value) <= most
    if not exact:
        raise InvalidRequest(f"Cannot convert JSON value: {quoted(value)} to {NAMES[dtype]} without loss of precision.")
    return float(value)


def _type_error(value, dtype) -> NoReturn:
    raise InvalidRequest(f"JSON Value: {quoted(value)} Type: {type_name(value)} is not of expected type: "
                         f"{_name(dtype)}")


def _name(dtype):
    return dtype.removeprefix("DT_").lower()


def decoded(value: Object) -> bytes:
    """Returns the bytes of `{"b64": TEXT}`: standard alphabet, white space skipped, padding optional.

    Raises: InvalidRequest.
    """
    if not is_base64(value):
        raise InvalidRequest(f"JSON Value: {quoted(value)} not formatted correctly for base64 data")
    text = BLANKS.sub("", value["b64"])
    digits = text.rstrip("=")
    padding = len(text) - len(digits)
    if not STANDARD.fullmatch(text) or padding not in PADDING.get(len(digits) % 4, ()):
        raise InvalidRequest("Unable to base64 decode")
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4))
    except binascii.Error:
        raise InvalidRequest("Unable to base64 decode") from None
