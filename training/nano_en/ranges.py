"""One fixed range for each activation in place of one found at every call.

onnxruntime's dynamic quantisation takes an activation's range over the whole batch, so a text's vectors would depend on
the texts beside it. With ranges fixed from training text they depend on the text alone, and a pass over each activation
is saved.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Feed = dict[str, npt.NDArray[Any]]
LEVELS = 255  # of an activation in 8 bits, without a sign


def observe(model: onnx.ModelProto, feeds: Iterable[Feed], share: float) -> dict[str, tuple[float, float]]:
    """Run a dynamically quantised graph and note the ranges that it uses.

    Parameters
    ----------
    model : onnx.ModelProto
    feeds : iterable of dict
        Inputs by name, one text each.
    share : float
        Part of the texts whose range is covered at each end; what lies beyond is clipped.

    Returns
    -------
    dict
        Lowest and highest value by activation.
    """
    onnxruntime: Any = import_module("onnxruntime")
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    nodes = [node for node in watched.graph.node if node.op_type == "DynamicQuantizeLinear"]
    del watched.graph.output[:]
    for node in nodes:
        watched.graph.output.append(helper.make_tensor_value_info(node.output[1], onnx.TensorProto.FLOAT, []))
        watched.graph.output.append(helper.make_tensor_value_info(node.output[2], onnx.TensorProto.UINT8, []))
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    seen = np.array([np.array(session.run(None, feed), float).reshape(-1, 2) for feed in feeds])
    step, zero = seen[..., 0], seen[..., 1]
    low, high = np.quantile(-zero * step, 1 - share, axis=0), np.quantile((LEVELS - zero) * step, share, axis=0)
    return {node.input[0]: (float(a), float(b)) for node, a, b in zip(nodes, low, high, strict=True)}


def fix(model: onnx.ModelProto, ranges: dict[str, tuple[float, float]]) -> onnx.ModelProto:
    """Return a dynamically quantised graph with its activations' ranges fixed.

    Each integer product becomes one node with its scales and, where one is added, its bias.

    Parameters
    ----------
    model : onnx.ModelProto
    ranges : dict
        Of `observe`.

    Returns
    -------
    onnx.ModelProto
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    graph = fixed.graph
    constants = {tensor.name for tensor in graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)

    replaced: dict[str, onnx.NodeProto | None] = {}
    for node in model.graph.node:
        if node.op_type == "DynamicQuantizeLinear":
            (values,), (codes, step_name, zero_name) = node.input, node.output
            low, high = ranges[values]
            step = (high - low) / LEVELS
            graph.initializer.append(numpy_helper.from_array(np.array(step, np.float32), step_name))
            graph.initializer.append(numpy_helper.from_array(np.array(round(-low / step), np.uint8), zero_name))
            replaced[codes] = helper.make_node("QuantizeLinear", [values, step_name, zero_name], [codes])
        elif node.op_type == "MatMulInteger":
            left, right, left_zero, right_zero = node.input
            (cast,) = users[node.output[0]]
            (product,) = users[cast.output[0]]
            scales = next(makers[name] for name in product.input if name != cast.output[0])
            inputs = [left, right, *scales.input, left_zero, right_zero]
            last = product
            following = users[product.output[0]]
            if len(following) == 1 and following[0].op_type == "Add":
                bias = [name for name in following[0].input if name in constants]
                last = following[0] if bias else product
                inputs += bias
            replaced |= {part.output[0]: None for part in (node, cast, scales, product)}
            replaced[last.output[0]] = helper.make_node(
                "MatMulIntegerToFloat", inputs, [last.output[0]], domain="com.microsoft"
            )
    kept = [replaced.get(node.output[0], node) for node in model.graph.node]
    del graph.node[:]
    graph.node.extend(node for node in kept if node is not None)
    return fixed
