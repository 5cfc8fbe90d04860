"""Train probes on a feature store alone: no backbone, no raw data."""
