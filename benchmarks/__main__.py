"""Every claim of speed, measured: `python -m benchmarks`.

    python -m benchmarks                                 all, 25 minutes on two cores
    python -m benchmarks store growth                    some
    python -m benchmarks probes --into FILE.json         one again, in the place of what a kept result has of it
    python -m benchmarks --quick                         a trial: whether they run; their numbers mean nothing
    python -m benchmarks compare A.json B.json           what changed from one result to another

Each benchmark runs in a process of its own. Prints all results as JSON on standard output, and a table of numbers,
goals and whether they are reached on standard error. Keeps the JSON, with a description of the machine, in
`benchmarks/results/`, but for trials; `--out` chooses a file. It is written after each benchmark, so that an
interruption loses none. The exit status is 1 if a benchmark failed, also if others went well; a goal that is missed is
no failure. What each means: docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks import compare, show
from benchmarks.compare import read_result
from benchmarks.machine import slug
from benchmarks.suite import NAMES, OtherMachineError, run

RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> int:
    """Run or compare, and return the exit status."""
    asked = sys.argv[1:] if arguments is None else arguments
    if asked[:1] == ["compare"]:
        return compare.main(asked[1:])
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(NAMES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="a trial of a minute or two")
    parser.add_argument("--all", action="store_true", help="show numbers without a goal too")
    parser.add_argument("--folder", type=Path, help="where benchmarks write; a temporary folder by default")
    parser.add_argument("--out", type=Path, help="file to keep the result in")
    parser.add_argument("--into", type=Path, help="kept result of this machine, in which these benchmarks are replaced")
    options = parser.parse_args(asked)
    if unknown := [name for name in options.names if name not in NAMES]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if options.folder is not None and not options.folder.is_dir():
        parser.error(f"--folder {options.folder}: is no folder; make it first")
    names = [name for name in NAMES if name in options.names] or NAMES
    if options.into is not None and (options.quick or options.out is not None or not options.names):
        parser.error("--into replaces what is named in a kept result: name benchmarks, without --quick and --out")
    path: Path | None = options.out or options.into
    into = None if options.into is None else read_result(parser, options.into)
    documents = run(names, options.folder, quick=options.quick, into=into)
    try:
        first = next(documents)
    except OtherMachineError as error:
        parser.error(f"--into {options.into}: {error}")
    for document in chain([first], documents):
        text = json.dumps(document, indent=1)
        path = path or (None if options.quick else _free(document))
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
    show.result(document, everything=options.all)
    print(text)
    if path is not None:
        print(f"kept in {path}", file=sys.stderr)
    return 1 if document["failed"] else 0


def _free(document: dict[str, Any]) -> Path:
    """`<date>-<machine>.json`, with a number if that day has one already."""
    name = f"{document['created'][:10]}-{slug(document['machine'])}"
    paths = (RESULTS / f"{name}{suffix}.json" for suffix in ("", *(f"-{k}" for k in range(2, 1000))))
    return next(path for path in paths if not path.exists())


if __name__ == "__main__":
    sys.exit(main())
