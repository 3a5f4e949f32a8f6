"""The weights as other runtimes want them: batch norm folded into the convolutions, gates in another order."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from aocr.graph.layers import BATCH_NORM_EPSILON
from aocr.networks import Layer

Weights = Mapping[str, np.ndarray]  # by the names of the variables in a checkpoint


class Convolution(NamedTuple):
    """A convolution with its batch norm folded in."""

    kernel: np.ndarray  # [height, width, inputs, filters] float32
    bias: np.ndarray  # [filters] float32
    before: tuple[int, int]  # rows and columns of zeros above and on the left
    after: tuple[int, int]  # below and on the right


def folded(weights: Weights, number: int, layer: Layer) -> Convolution:
    """Returns the convolution of the CNN's layer of this number, from 1, as `graph.layers.conv` pads it."""
    scope = f"cnn/conv{number}"
    kernel = weights[f"{scope}/kernel"].astype(np.float64)
    factor, bias = np.ones(layer.filters), np.zeros(layer.filters)
    if layer.batch_norm:
        gamma, beta, mean, variance = (weights[f"{scope}/{name}"].astype(np.float64) for name in (
            "gamma", "beta", "population_mean", "population_variance"))
        factor = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
        bias = beta - mean * factor
    pads = [((extent - 1) // 2, extent // 2) if extent > step else (0, 0)
            for extent, step in zip(layer.kernel, layer.stride)]
    before, after = zip(*pads)
    return Convolution((kernel * factor).astype(np.float32), bias.astype(np.float32), before, after)


def linear(weights: Weights, scope: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns (kernel [inputs, outputs], bias [outputs]) of a linear layer."""
    return weights[f"{scope}/kernel"], weights[f"{scope}/bias"]


def reordered(gates: np.ndarray, order: str, wanted: str) -> np.ndarray:
    """Reorders the blocks of the last axis, one per gate, named by one letter each: "ijfo", "iofj"."""
    blocks = dict(zip(order, np.split(gates, len(order), axis=-1)))
    return np.concatenate([blocks[gate] for gate in wanted], axis=-1)
