"""What meshd decides, as pure code: `Node.step(input, now_us) -> effects`.

Rule 1: no I/O, no clock, no thread, no randomness but what arrives as an argument.
Rule 2: integers for time, bytes and cost; no iteration over sets; ties broken by node id.
Rule 3: equal inputs give equal effects, byte for byte.
"""
