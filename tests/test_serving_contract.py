"""The REST contract of TensorFlow Serving: requests and their answers, from `aocr serve` and from any server by URL."""

import base64
import io
import json
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from helpers import ask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from aocr.serving.answers import Output, predictions_text
from aocr.serving.contract import Problem, Signature, predict_request
from aocr.serving.fill import Tensor
from aocr.serving.rapid_json import ParseError, decimal, parse

CASES = json.loads((Path(__file__).parent / "serving" / "cases.json").read_text(encoding="utf-8"))
PREDICT = "/v1/models/aocr:predict"
LIKE = {"$text": str, "$number": float, "$version": str}


def picture():
    """A PNG file of 41 x 32 pixels."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((41, 32)).save(file, "PNG")
    return file.getvalue() + bytes(-len(file.getvalue()) % 3 + 1)  # base64 of it needs padding; decoders ignore zeros


IMAGE = base64.b64encode(picture()).decode()


def filled(value, version):
    """Puts the image and the version that answers into a request."""
    if isinstance(value, str):
        for name, text in (("$image_unpadded", IMAGE.rstrip("=")), ("$image", IMAGE), ("$version", version)):
            value = value.replace(name, text)
        return value
    if isinstance(value, list):
        return [filled(item, version) for item in value]
    return {key: filled(item, version) for key, item in value.items()} if isinstance(value, dict) else value


def assert_like(found, expected):
    """Compares parsed answers; `$text` and the like stand for any value of their kind."""
    if isinstance(expected, str) and expected in LIKE:
        assert isinstance(found, LIKE[expected])
    elif isinstance(expected, dict):
        assert isinstance(found, dict) and set(found) == set(expected)
        for key in expected:
            assert_like(found[key], expected[key])
    elif isinstance(expected, list):
        assert isinstance(found, list) and len(found) == len(expected)
        for one, other in zip(found, expected):
            assert_like(one, other)
    else:
        assert found == expected


def pytest_generate_tests(metafunc):
    """Runs the tests that take a server against ours, and against that of --serving-url."""
    if "server" in metafunc.fixturenames:
        url = metafunc.config.getoption("--serving-url")
        metafunc.parametrize("server", ["ours", url] if url else ["ours"], indirect=True, scope="session")


@pytest.fixture(scope="session")
def server(request):
    """The URL and the model's name of a server."""
    if request.param == "ours":
        return request.getfixturevalue("tiny_server").url, "aocr"
    return request.param, urlsplit(request.param).path.rpartition("/")[2]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_request_and_answer(case, server):
    url, name = server
    status = ask(url, "GET", f"/v1/models/{name}")[2]["model_version_status"]
    version = next(one["version"] for one in status if one["state"] == "AVAILABLE")
    body = filled(case.get("text", ""), version) if "text" in case else json.dumps(filled(case.get("json"), version))
    path = filled(case["path"], version)
    path = path.replace("/aocr", f"/{name}").replace("/%61ocr", f"/%{ord(name[0]):x}{name[1:]}")
    found, headers, answer = ask(url, case["method"], path, body.encode() if case["method"] != "GET" else None)
    assert found == case["status"], answer
    if path.lower().startswith("/v1/"):
        assert headers["Content-Type"] == "application/json"
    if "answer" in case:
        assert_like(answer, case["answer"])
    if "error" in case:
        assert answer == {"error": case["error"].replace("aocr", name)}
    if "error_has" in case:
        assert set(answer) == {"error"} and case["error_has"] in answer["error"]


def test_metadata(server):
    url, name = server
    status, _, answer = ask(url, "GET", f"/v1/models/{name}/metadata")
    assert status == 200 and set(answer) == {"model_spec", "metadata"}
    assert_like(answer["model_spec"], {"name": name, "signature_name": "", "version": "$version"})
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["input"]["dtype"] == "DT_STRING"
    assert signature["inputs"]["input"]["tensor_shape"] == {"dim": [], "unknown_rank": True}
    assert set(signature["outputs"]) == {"output", "probability"}
    assert signature["method_name"] == "tensorflow/serving/predict"


# ---- rules that no model of ours needs

PIXELS = Signature({"pixels": "DT_FLOAT", "widths": "DT_INT32"}, ("output",))


def tensors(body, signature=PIXELS):
    """Returns the tensors of a request, or the message of its error."""
    try:
        return predict_request(body.encode(), lambda name: signature).tensors
    except Problem as problem:
        assert problem.status == 400
        return problem.message


def test_several_inputs_in_rows():
    assert tensors('{"instances": [{"pixels": [1, 2.5, 3], "widths": 7}, {"widths": 8, "pixels": [4, 5, 6]}]}') == {
        "pixels": Tensor([1.0, 2.5, 3.0, 4.0, 5.0, 6.0], (2, 3), "DT_FLOAT"),
        "widths": Tensor([7, 8], (2,), "DT_INT32")}


def test_several_inputs_in_columns():
    assert tensors('{"inputs": {"pixels": [[[0.5], [1]]], "widths": [2]}}') == {
        "pixels": Tensor([0.5, 1.0], (1, 2, 1), "DT_FLOAT"), "widths": Tensor([2], (1,), "DT_INT32")}


@pytest.mark.parametrize("body, message", [
    ('{"instances": [1]}', "instances is a plain list, but expecting list of objects as multiple input tensors "
                           "required as per tensorinfo_map"),
    ('{"inputs": [1]}', "inputs is a plain value/list, but expecting an object as multiple input tensors required as "
                        "per tensorinfo_map"),
    ('{"inputs": {"pixels": 16777216, "widths": 1}}', "Cannot convert JSON value: 16777216 to float without loss of "
                                                      "precision."),
    ('{"inputs": {"pixels": 1e39, "widths": 1}}', "Cannot convert JSON value: 1e+39 to float without loss of "
                                                  "precision."),
    ('{"inputs": {"pixels": true, "widths": 1}}', "JSON Value: true Type: True is not of expected type: float"),
    ('{"inputs": {"pixels": 1, "widths": 1.0}}', "JSON Value: 1.0 Type: Number is not of expected type: int32"),
    ('{"inputs": {"pixels": 1, "widths": 2147483648}}', "JSON Value: 2147483648 Type: Number is not of expected type: "
                                                        "int32"),
    ('{"instances": [{"pixels": 1}]}', "Failed to process element: 0 of 'instances' list. JSON object: {\n"
                                       '    "pixels": 1\n} keys must be equal to: pixels,widths'),
])
def test_several_inputs_that_are_wrong(body, message):
    assert tensors(body) == message


@pytest.mark.parametrize("value, single, text", [
    (0.98, True, "0.98"), (0.987654328, True, "0.987654328"), (1.0, True, "1.0"), (1e-7, True, "1e-07"),
    (0.1234567, False, "0.1234567"), (1 / 3, False, "0.33333333333333331"), (9e6, False, "9e+06"), (0.0, True, "0.0"),
    (float("nan"), False, "NaN"), (float("-inf"), True, "-Infinity")])
def test_numbers_are_spelled_as_the_server_spells_them(value, single, text):
    assert decimal(float(np.float32(value)) if single else value, single) == text


def test_one_output_has_no_name():
    assert json.loads(predictions_text({"output": Output([b"A", b"B"], (2,))}, True)) == {"predictions": ["A", "B"]}
    assert json.loads(predictions_text({"output": Output(b"A", ())}, False)) == {"outputs": "A"}


def test_outputs_of_bytes_are_base64():
    assert json.loads(predictions_text({"image_bytes": Output([b"\xff\x00"], (1,))}, True)) == {
        "predictions": [{"b64": "/wA="}]}


@pytest.mark.parametrize("outputs, message", [
    ({"probability": Output(0.5, ())}, "Tensor name: probability has no shape information "),
    ({"a": Output([1], (1,)), "b": Output([1, 2], (2,))},
     "Tensor name: b has inconsistent batch size: 2 expecting: 1")])
def test_outputs_without_rows(outputs, message):
    with pytest.raises(Problem) as caught:
        predictions_text(outputs, True)
    assert (caught.value.status, caught.value.message) == (400, message)


# ---- any body

VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
                      | st.just({"b64": IMAGE}) | st.just({"b64": "AAAA"}),
                      lambda inner: st.lists(inner, max_size=3)
                      | st.dictionaries(st.sampled_from(["b64", "input", "x"]), inner, max_size=2), max_leaves=6)
BODIES = (st.binary(max_size=30)
          | st.text('{}[]",:\\u0123456789dDnulINaf.eE+- ', max_size=25).map(str.encode)
          | st.dictionaries(st.sampled_from(["instances", "inputs", "signature_name", "examples"]), VALUES, max_size=3)
          .map(lambda value: json.dumps(value).encode()))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, method=st.sampled_from(["predict", "predict", "predict", "classify", "regress"]))
def test_any_body_has_an_answer(tiny_server, body, method):
    status, _, answer = ask(tiny_server.url, "POST", f"/v1/models/aocr:{method}", body)
    assert status in (200, 400)
    assert isinstance(answer, dict) and len(answer) == 1 and next(iter(answer)) in ("predictions", "outputs", "error")


@settings(max_examples=200, deadline=None)
@given(st.text('{}[]",:\\u0123456789dDnulINaf.eE+- \n', max_size=25) | VALUES.map(json.dumps))
def test_what_python_parses_alike(text):
    """Python's parser and ours agree, where both should: on standard JSON."""
    try:
        expected = json.loads(text)
    except ValueError:
        return
    try:
        found = parse(text.encode())
    except ParseError as error:
        assert "surrogate" in str(error) or "too big" in str(error)
        return
    assert json.dumps(found) == json.dumps(expected) or '"' in text  # of equal keys another one counts
