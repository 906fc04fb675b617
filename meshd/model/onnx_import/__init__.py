"""From an ONNX file to a graph, on the machine of whoever pushes the model. The daemon never loads this.

Settled here, so that no device has to: opset differences, defaults, shapes, constants, BatchNorm, no-ops. Everything that
cannot be settled is refused in one list: node, operator, why, what to do.

Story: `load` reads the file within limits; `walk` goes through its nodes once, folding what is constant and translating the
rest by the rows of `rows_*`; `passes` fold and fuse; `finish` names, types and checks the result.
"""

from meshd.model.onnx_import.importer import import_bytes, import_model
from meshd.model.onnx_import.refusal import Refusal, UnsupportedModelError

__all__ = ["Refusal", "UnsupportedModelError", "import_bytes", "import_model"]
