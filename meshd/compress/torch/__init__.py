"""Compression that trains: binary layers, block pruning, distillation, and export to plain ONNX.

The only package of meshd that imports PyTorch (the optional extra ``train``), with the recipes that are built on it.
A user with a ``torch.nn.Sequential`` and a loader needs four things:

- ``binarize.BinaryConv2d`` and ``binarize.BinaryLinear`` in place of the layers that may become binary;
- ``prune.BlockPruner`` over the layers that may become sparse, told after every step of the optimiser;
- ``distill.distillation_loss`` with the original network as the teacher;
- ``export.to_onnx``, whose files the importer maps onto sparse and binary kernels without loss.
"""
