"""BLAS on one thread: the references' small products would wait for each other on busy machines, many times their work."""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    # Only has an effect where NumPy is not loaded yet.
    os.environ.setdefault(name, "1")
