"""Measurements behind every claim of speed: ratios against a peer in the same run, printed as JSON."""
