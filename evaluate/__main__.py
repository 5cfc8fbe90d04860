"""`python -m evaluate`."""

from __future__ import annotations

from evaluate.cli import app

if __name__ == "__main__":
    app(prog_name="python -m evaluate")
