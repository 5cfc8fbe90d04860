"""Run what pipelines.yaml says. The only package that knows the other four."""
