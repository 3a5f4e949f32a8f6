"""Builds ONNX graphs: names values, collects nodes and constants."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET, IR_VERSION = 17, 8  # of 2022: every runtime since then reads them

Value = str | np.ndarray | np.generic  # the name of a value, or a constant


class Builder:
    """A graph, or the body of a loop in one, which may use all values of the graph around it."""

    def __init__(self, around: "Builder | None" = None):
        self.nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple, onnx.TensorProto] = around._constants if around else {}
        self._numbers: Iterator[int] = around._numbers if around else itertools.count()

    def op(self, kind: str, *inputs: Value, **attributes: Any) -> str:
        """Adds a node with one output; returns the output's name. An empty name leaves an optional input out."""
        return self.ops(kind, inputs, 1, **attributes)[0]

    def ops(self, kind: str, inputs: Sequence[Value], outputs: int, **attributes: Any) -> list[str]:
        """Adds a node; returns the names of its outputs."""
        names = [f"{kind}_{next(self._numbers)}" for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, [self._named(value) for value in inputs], names, **attributes))
        return names

    def name(self, value: str, name: str) -> None:
        """Gives a value a name of its own, such as that of an output of the graph."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))

    def _named(self, value):
        """Returns a value's name; equal constants are stored once, in the outermost graph."""
        if isinstance(value, str):
            return value
        value = np.ascontiguousarray(value).reshape(np.shape(value))
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(value, f"constant_{next(self._numbers)}")
        return self._constants[key].name

    def body(self, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> onnx.GraphProto:
        """Returns the nodes as the body of a loop."""
        return helper.make_graph(self.nodes, name, inputs, outputs)

    def model(self, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto],
              **metadata: str) -> onnx.ModelProto:
        """Returns the finished model. Raises onnx.checker.ValidationError if it is not valid."""
        graph = helper.make_graph(self.nodes, name, inputs, outputs, list(self._constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
                                  producer_name="aocr")
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        return model


def tensor(name: str, dtype: type, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    """Describes an input or output; a dimension with a letter is of any size."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


