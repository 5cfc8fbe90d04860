"""`python -m pipelines run demo`: run what pipelines.yaml says, in order, skipping what is already done.

It adds nothing of its own: every step is a command that can be run by hand, and is printed as such.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands import commands
from pipelines.errors import PipelineError
from pipelines.file import FILE, choose, load, part
from pipelines.running import run_all

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
Name = Annotated[str, typer.Argument(help="Which pipeline.")]
Only = Annotated[list[str] | None, typer.Option(help="Only these stores, and fusions of them; repeatable.")]
File = Annotated[Path, typer.Option("--file", help="Another file than the project's pipelines.yaml.")]


@app.command("list")
def list_pipelines(file: File = FILE, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """All pipelines and what they are about."""
    pipelines = load(file)
    if as_json:
        print(json.dumps({name: pipeline.about.strip() for name, pipeline in pipelines.items()}, indent=1))
        return
    for name, pipeline in pipelines.items():
        print(f"{name}\n    {pipeline.about.strip()}")


@app.command()
def show(name: Name, file: File = FILE, only: Only = None) -> None:
    """The commands that a pipeline stands for."""
    for command in commands(part(choose(load(file), name), only or [])):
        print(shlex.join(command))


@app.command()
def run(
    name: Name,
    file: File = FILE,
    device: Annotated[str | None, typer.Option(help="cpu, cuda …: overrides what the file says.")] = None,
    only: Only = None,
) -> None:
    """Run a pipeline. What is already done is skipped, with the reason."""
    pipeline = part(choose(load(file), name), only or [])
    start = time.monotonic()
    if not run_all(pipeline, device):
        raise typer.Exit(1)
    print(f"\npipeline {name} done in {time.monotonic() - start:.0f} s: open {pipeline.report}/report.html", flush=True)


def main() -> None:
    """Run the command line; known errors become one message and exit status 1."""
    from evaluate.errors import EvaluateError
    from extract.errors import ExtractError
    from probes.errors import ProbesError
    from store.errors import StoreError

    try:
        app()
    except (PipelineError, ExtractError, StoreError, ProbesError, EvaluateError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept; run the same command again to go on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
