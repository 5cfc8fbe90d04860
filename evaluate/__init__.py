"""Metrics, statistics and the report: what probes' records say, and how sure one may be of it."""
