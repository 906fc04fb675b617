"""What e2e tests need of the machine, and what happens where it is missing: a loud skip, but never with CI=true."""

import os

import pytest

_IN_CI = os.environ.get("CI") == "true"
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 and not _IN_CI, reason="NOT ROOT: namespaces and mounts cannot be made; run as root to test this"
)
"""For tests that make namespaces or mounts."""
