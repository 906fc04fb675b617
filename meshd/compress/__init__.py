"""Making models small, offline: prune, quantise, binarise, distil. The daemon never imports this."""
