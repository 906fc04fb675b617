"""One pass over the nodes of a model: what is constant is folded, the rest translated by the rows, refusals collected."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from meshd.errors import InvalidError
from meshd.model.onnx_import import fold, load
from meshd.model.onnx_import.node import Builder, Node, Steps, Value, constant
from meshd.model.onnx_import.refusal import Refusal, RefusedError
from meshd.model.onnx_import.rows import ROWS
from meshd.model.onnx_import.rows_pointwise import DTYPES

DEPTH_MAX = 8
"""Nested If."""


@dataclass(slots=True)
class Walk:
    """What is known so far. A tensor that maps to None comes from a refused node."""

    opset: int
    builder: Builder
    values: dict[str, Value | None]
    refusals: list[Refusal] = field(default_factory=list)

    def run(self, nodes: Any, depth: int = 0) -> None:
        """Translate nodes in order; raises InvalidError where the graph is not sound."""
        if depth > DEPTH_MAX:
            raise InvalidError(f"If nested more than {DEPTH_MAX} deep")
        for i, node in enumerate(nodes):
            name = node.name or (node.output[0] if node.output else f"node {i}")
            unknown = [n for n in node.input if n and n not in self.values]
            if unknown:
                raise InvalidError(
                    f"{name} ({node.op_type}) reads {unknown[0]!r} before anything writes it, or in a cycle"
                )
            if any(o in self.values for o in node.output if o):
                raise InvalidError(f"{name} ({node.op_type}) writes a tensor that is written already")
            self.values.update(dict.fromkeys((o for o in node.output if o), None))
            inputs = [self.values[n] if n else None for n in node.input]
            if any(n and v is None for n, v in zip(node.input, inputs, strict=True)):
                continue  # It hangs on a refused node: that one is named.
            try:
                outputs = self._node(node, name, inputs, depth)
            except RefusedError as error:
                self.refusals.append(Refusal(name, node.op_type, error.why, error.remedy))
                continue
            except InvalidError:
                if self.refusals:
                    continue
                raise
            except (ArithmeticError, LookupError, TypeError, ValueError, MemoryError) as error:
                # A row may trust a node to be well formed; one that is not is the file's fault, whatever Python calls it.
                raise InvalidError(f"{name} ({node.op_type}) is malformed: {type(error).__name__}: {error}") from error
            self.values.update((o, v) for o, v in zip(node.output, outputs, strict=False) if o)

    def _node(self, node: Any, name: str, inputs: list[Value | None], depth: int) -> list[Value]:
        attributes = _attributes(node, name)
        if node.domain not in {"", "ai.onnx"}:
            raise RefusedError(
                f"operators of domain {node.domain!r} are not supported", "export with standard operators only"
            )
        if node.op_type == "Constant":
            return [constant(self.builder.name(node.output[0]), fold.constant_node(node, attributes))]
        if node.op_type in {"Shape", "Size"} and inputs and inputs[0] is not None:
            return [constant(self.builder.name(node.output[0]), _shape(node.op_type, inputs[0].shape, attributes))]
        if node.op_type == "EyeLike" and inputs and inputs[0] is not None:
            return [constant(self.builder.name(node.output[0]), _eye(inputs[0], attributes))]
        if node.op_type == "If" and inputs and inputs[0] is not None:
            return self._if(inputs[0], attributes, depth)
        foldable = node.op_type in ROWS or node.op_type in {"ConstantOfShape", "Range"} or _standard(node, self.opset)
        known = {
            n: v.constant for n, v in zip(node.input, inputs, strict=True) if v is not None and v.constant is not None
        }
        if foldable and inputs and len(known) == len({n for n in node.input if n}):
            made = fold.evaluate(node, known, self.opset)
            names = [o for o in node.output if o]
            results = dict(zip(names, made, strict=True))
            steps = _steps(node.op_type, inputs, attributes)
            return [
                constant(self.builder.name(o or "unused"), results.get(o, np.zeros(0, np.float32)), steps)
                for o in node.output
            ]
        row = ROWS.get(node.op_type)
        if row is None:
            raise RefusedError(
                "this operator is not supported", "replace it by supported ones, or split the model there"
            )
        made_by_row = row(Node(node.op_type, name, self.opset, inputs, list(node.output), attributes, self.builder))
        return made_by_row if isinstance(made_by_row, list) else [made_by_row]

    def _if(self, condition: Value, attributes: Mapping[str, Any], depth: int) -> list[Value]:
        if condition.constant is None or condition.constant.size != 1:
            raise RefusedError(
                "its condition is computed while running", "export one branch, or fix the input it depends on"
            )
        if not {"then_branch", "else_branch"} <= set(attributes):
            raise InvalidError("an If without its branches")
        branch = attributes["then_branch" if bool(condition.constant.reshape(-1)[0]) else "else_branch"]
        load.check_text(branch)
        inner = Walk(self.opset, self.builder, dict(self.values), self.refusals)
        for t in branch.initializer:
            inner.values[t.name] = constant(self.builder.name(t.name), load.array(t, None))
        inner.run(branch.node, depth + 1)
        outputs = [inner.values.get(o.name) for o in branch.output]
        if None in outputs:
            raise RefusedError("its branch holds what is not supported", "see the other nodes of this list")
        return [v for v in outputs if v is not None]


def _steps(op: str, inputs: list[Value | None], attributes: Mapping[str, Any]) -> Steps | None:
    """Of a folded node: what its result was dequantised from, where that is still known."""
    known = [v.constant if v is not None else None for v in inputs]
    x = inputs[0]
    if op == "DequantizeLinear" and x is not None and not attributes.get("block_size", 0):
        octets, scale, zero = [*known, None, None][:3]
        if octets is not None and scale is not None:
            return Steps.of(octets, scale, zero, attributes.get("axis", 1) if scale.size > 1 else 0)
    if x is not None and x.steps is not None:
        if op == "Identity":
            return x.steps
        if op == "Transpose":
            return x.steps.transposed(attributes.get("perm", range(len(x.shape))[::-1]))
    return None


def _shape(op: str, shape: tuple[int, ...], attributes: Mapping[str, Any]) -> Any:
    if op == "Size":
        return np.asarray(prod(shape), np.int64)
    return np.asarray(shape[slice(attributes.get("start", 0), attributes.get("end", None))], np.int64)


def _eye(x: Value, attributes: Mapping[str, Any]) -> Any:
    if len(x.shape) != 2:
        raise InvalidError(f"EyeLike of shape {list(x.shape)}")
    dtype = DTYPES.get(attributes.get("dtype", 0), x.type.dtype)
    return np.eye(*x.shape, k=attributes.get("k", 0), dtype=dtype)


def _standard(node: Any, opset: int) -> bool:
    """Whether the operator is one that ONNX's reference could fold without control flow or chance."""
    import onnx

    never = ("Loop", "Scan", "Sequence", "Random", "Bernoulli", "Multinomial")
    if node.op_type.startswith(never):
        return False
    return bool(onnx.defs.has(node.op_type, opset, ""))


def _attributes(node: Any, name: str) -> dict[str, Any]:
    import onnx

    found: dict[str, Any] = {}
    for attribute in node.attribute:
        try:
            value = onnx.helper.get_attribute_value(attribute)
        except ValueError:
            raise InvalidError(f"{name} ({node.op_type}): attribute {attribute.name} has no readable value") from None
        listed = hasattr(value, "__iter__") and not isinstance(value, (bytes, str))
        found[attribute.name] = list(value) if listed else value
    return found
