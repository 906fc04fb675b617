"""Arrays in, arrays out: the compiled loops, their references, and which of them is fastest here. No threads, no I/O."""
