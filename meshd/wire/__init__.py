"""Bytes to core values and back: frames, seals, codecs, each with its limits. Nothing here decides anything."""
