"""Keeping a store sound: verify, collect garbage, compare, finalize."""
