"""A mesh in virtual time, with every fault, held to every invariant."""
