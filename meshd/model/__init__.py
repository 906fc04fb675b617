"""A network as meshd sees it: the graph, where it may be cut, how it is stored, how ONNX becomes it."""
