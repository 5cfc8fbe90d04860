"""`python -m store`, one file per group of commands."""
