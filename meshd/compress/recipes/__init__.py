"""Recipes: real networks trained, compressed and exported on public data, each rerun by one command."""
