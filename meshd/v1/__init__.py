"""Messages generated from `proto/meshd/v1`; never edited by hand."""
