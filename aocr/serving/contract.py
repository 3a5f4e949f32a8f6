"""TensorFlow Serving's REST contract: paths, requests as tensors, answers, errors. Pure Python, no TensorFlow.

The messages are those of the server, since clients search them.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote

from aocr.config import LAST_VERSION
from aocr.serving.fill import InvalidRequest, Tensor, from_inputs, from_instances
from aocr.serving.rapid_json import Object, ParseError, parse, quoted, type_name

DEFAULT_SIGNATURE = "serving_default"
_MODEL = r"/v1/models{name}(?:(?:/versions/(?P<version>\d+))|(?:/labels/(?P<label>[^/:]+)))?"
CALL = re.compile(_MODEL.format(name="/(?P<name>[^/:]+)") + r":(?P<method>classify|regress|predict)",
                  re.IGNORECASE | re.ASCII)
LOOK = re.compile(_MODEL.format(name="(?:/(?P<name>[^/:]+))?") + r"(?:/(?P<method>metadata))?",
                  re.IGNORECASE | re.ASCII)


class Problem(Exception):
    """A request that is answered by an error: `Problem(status, message)`; `headers` go with the answer."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


class Target(NamedTuple):
    """What the path of a request names."""

    name: str
    version: int | None
    label: str | None
    method: str  # predict, classify, regress, metadata, or '' for the status

    def describe(self) -> str:
        """Returns the server's words for it."""
        return f"Latest({self.name})" if self.version is None else f"Specific({self.name}, {self.version})"


class Signature(NamedTuple):
    """Inputs and outputs of a graph: the types (DT_STRING ...) of the inputs by name, the names of the outputs."""

    inputs: dict[str, str]
    outputs: tuple[str, ...]
    text: str = ""  # the SignatureDef as text, for messages


class Predict(NamedTuple):
    """A predict request."""

    signature: str
    tensors: dict[str, Tensor]
    row: bool  # whether the answer is a list of predictions, one for each instance


def target_of(verb: str, path: str) -> Target:
    """Returns what a path under /v1/ names. `path`: percent-encoded. Raises: Problem."""
    found = {"POST": CALL, "GET": LOOK}[verb].fullmatch(path) if verb in ("POST", "GET") else None
    if not found:
        raise Problem(400, f"Malformed request: {verb} {path}")
    if found["version"] and int(found["version"]) > LAST_VERSION:
        raise Problem(400, f"Failed to convert version: {found['version']} to numeric.")
    if not found["name"]:
        raise Problem(400, "Missing model name in request.")
    return Target(unquote(found["name"], errors="replace"), int(found["version"]) if found["version"] else None,
                  unquote(found["label"], errors="replace") if found["label"] else None,
                  (found["method"] or "").lower())


def predict_request(body: bytes, signature_of: Callable[[str], Signature | None]) -> Predict:
    """Reads the body of a predict request. `signature_of`: returns a Signature by its name. Raises: Problem."""
    try:
        document = _document(body)
        name = document.get("signature_name") or DEFAULT_SIGNATURE
        signature = signature_of(name)
        if not signature:
            raise InvalidRequest(f'Serving signature name: "{name}" not found in signature def')
        return Predict(name, *_tensors(document, signature))
    except (InvalidRequest, ParseError) as error:
        raise Problem(400, str(error)) from None
    except RecursionError:
        raise Problem(400, "JSON Parse error: the values are nested too deeply") from None


def refuse_examples(body: bytes, method: str, signature_of: Callable[[str], Signature | None]) -> None:
    """Raises the Problem of a classify or regress request, as for a model without signatures of that kind."""
    try:
        document = _document(body)
        _check_examples(document)
        name = document.get("signature_name") or DEFAULT_SIGNATURE
        signature = signature_of(name)
        if not signature:
            raise InvalidRequest(f"No signature was found with the name: {name}")
        raise InvalidRequest(_no_examples(method, signature))
    except (InvalidRequest, ParseError) as error:
        raise Problem(400, str(error)) from None
    except RecursionError:
        raise Problem(400, "JSON Parse error: the values are nested too deeply") from None


def _no_examples(method, signature):
    if len(signature.inputs) != 1:
        return "Expected one input Tensor."
    count = len(signature.outputs)
    if method == "regress":
        return ("Expected one output Tensor." if count != 1
                else f"No regression inputs found in SignatureDef: {signature.text}")
    if count not in (1, 2):
        return f"Expected one or two output Tensors, found {count}"
    return f"No classification inputs found in SignatureDef: {signature.text}"


def _document(body):
    """Returns the JSON object of a body, its signature's name checked."""
    try:
        document = parse(body)
    except ParseError as error:
        raise InvalidRequest(f"JSON Parse error: {error}") from None
    if not isinstance(document, Object):
        raise InvalidRequest(f"JSON Value: {quoted(document)} Is not object")
    if not isinstance(document.get("signature_name", ""), str):
        raise InvalidRequest(f"JSON Value: {quoted(document)} not formatted correctly. 'signature_name' key must be a "
                             "string value.")
    return document


def _tensors(document, signature):
    """Returns the tensors of a predict request, and whether they came in rows."""
    if "instances" not in document:
        if "inputs" not in document:
            raise InvalidRequest("Missing 'inputs' or 'instances' key")
        return from_inputs(document["inputs"], signature.inputs), False
    instances = document["instances"]
    problem = ("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
               if "inputs" in document
               else "Expecting 'instances' to be an list/array" if not isinstance(instances, list)
               else "No values in 'instances' array" if not instances
               else None)
    if problem:
        raise InvalidRequest(f"JSON Value: {quoted(document)} {problem}")
    return from_instances(instances, signature.inputs), True


def _check_examples(document):
    """Checks the examples of a classify or regress request, but not the kinds of their features."""
    examples = document.get("examples")
    problem = ("When method is classify, key 'examples' is expected and was not found" if "examples" not in document
               else "Expecting 'examples' value to be an list/array" if not isinstance(examples, list)
               else "'examples' value is an empty array" if not examples
               else None)
    others = [document["context"]] if "context" in document else []
    for value in others + (examples if not problem else []):
        if not isinstance(value, Object):
            raise InvalidRequest(f"Example must be JSON object but got JSON {type_name(value)}")
    if problem:
        raise InvalidRequest(f"JSON Value: {quoted(document)} {problem}")


def status_answer(states: dict[int, tuple[str, str, str]]) -> dict[str, Any]:
    """Returns the status of versions: version -> (state, error code, message), the highest first."""
    return {"model_version_status": [
        {"version": str(version), "state": state, "status": {"error_code": code, "error_message": message}}
        for version, (state, code, message) in sorted(states.items(), reverse=True)]}


def metadata_answer(name: str, version: int, signatures: dict[str, Any]) -> dict[str, Any]:
    """Returns the metadata of a version. `signatures`: each SignatureDef as JSON, by name."""
    return {"model_spec": {"name": name, "signature_name": "", "version": str(version)},
            "metadata": {"signature_def": {"signature_def": signatures}}}
