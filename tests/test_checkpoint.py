"""The description in a model directory: what it must hold to be believed."""

import json

import pytest

from aocr.charset import Charset
from aocr.checkpoint import Description
from aocr.config import ModelConfig
from aocr.errors import UserError

VALUES = json.loads(Description(ModelConfig(), Charset("AB")).to_json())


def read(**change):
    """The Description in VALUES after a change of some, at the top or in `model`."""
    values = json.loads(json.dumps(VALUES))
    for key, value in change.items():
        (values["model"] if key in values["model"] else values)[key] = value
    return Description.from_json(json.dumps(values), "here/model.json")


def test_a_description_is_read_as_it_was_written():
    assert read() == Description(ModelConfig(), Charset("AB"))
    assert read(color=True, max_width=7).config == ModelConfig(color=True, max_width=7)


@pytest.mark.parametrize("change, told", [
    (dict(max_width=1.5), "max_width is 1.5, no int"),
    (dict(max_width=True), "max_width is True, no int"),
    (dict(max_height=None), "max_height is None, no int"),
    (dict(color="yes"), "color is 'yes', no bool"),
    (dict(max_width=0), "the least is 1"),
    (dict(model=[]), "AttributeError"),
    (dict(charset="AB"), "charset is no list"),
    (dict(charset={"A": 1}), "charset is no list"),
    (dict(charset=["\ud800"]), "surrogates not allowed"),
    (dict(charset=[1]), "expected str"),
    (dict(charset=[]), "at least one character"),
    (dict(format_version=9, aocr_version="9\n.0"), "Use aocr 9 .0"),
])
def test_values_of_another_kind_are_one_clear_error(change, told):
    with pytest.raises(UserError) as caught:
        read(**change)
    assert str(caught.value).startswith("here/model.json: ") and told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_description_that_is_nested_too_deeply():
    with pytest.raises(UserError, match="nested too deeply"):
        Description.from_json("[" * 100_000, "model.json")
