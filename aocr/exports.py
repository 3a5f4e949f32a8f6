"""What the directory of an exported model holds, and what it says of the model."""

import posixpath

from aocr.checkpoint import Description, description_at
from aocr.config import LAST_VERSION
from aocr.files import exists
from aocr.model import Model

SAVED_MODEL, FROZEN_GRAPH = "saved_model.pb", "frozen_graph.pb"
N_BEST = ("hypotheses", "hypothesis_probabilities")  # outputs of DETAIL, if the n best texts are asked for
DEFAULT, DETAIL, PIXELS = "serving_default", "serving_detail", "serving_pixels"  # signatures of a SavedModel
WARM_UP = "assets.extra/tf_serving_warmup_requests"  # where TensorFlow Serving looks for it
DESCRIPTIONS = {SAVED_MODEL: "assets.extra/model.json", FROZEN_GRAPH: "frozen_graph.json"}  # by the file of the graph


def version_of(name: str) -> int | None:
    """Returns the version that a directory's name tells; None if it tells none."""
    return int(name) if name.isascii() and name.isdecimal() and int(name) <= LAST_VERSION else None


def read_export_description(directory: str) -> Description | None:
    """Returns the description of the model in a directory of `aocr export`: charset, geometry, limits, decoding.

    Returns: None if there is no export, or one of an earlier version, which has no description.
    Raises: UserError if it cannot be read.
    """
    for graph, name in DESCRIPTIONS.items():
        if exists(posixpath.join(directory, graph)):
            return description_at(posixpath.join(directory, name))
    return None


def description_of(model: Model) -> Description:
    """Returns the description of a model as it reads: with the decoding that was chosen for it."""
    assert model.decoding
    return Description(model.config, model.charset, model.decoding, model.temperature)
