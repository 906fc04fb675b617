"""meshd: small devices on one network share a neural network, and survive each other's failures.

`ARCHITECTURE.md` is the map. Nothing is imported here, so that every command pays only for what it uses.
"""

__version__ = "0.1.0"
