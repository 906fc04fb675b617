"""Typed Python clients of a mesh."""
