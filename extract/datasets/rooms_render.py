"""Make, measure, describe and export the `rooms` dataset: `python -m extract.datasets.rooms_render --help`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

HERE = Path(__file__).parent / "assets" / "rooms"


def _rooms(text: str) -> list[int]:
    """`0-5,9` to numbers."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m extract.datasets.rooms_render", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="render rooms (needs bpy); finished rooms are skipped")
    make.add_argument("out", type=Path, nargs="?", default=HERE, help="dataset folder (default: the shipped one)")
    make.add_argument("--rooms", type=_rooms, default=_rooms("0-47"), metavar="0-47", help="which rooms")
    make.add_argument("--furniture", type=Path, help="BlendSwap-CC-0.sh3f, or a folder with it or its content")
    make.add_argument("--seed", type=int, help="the dataset's seed (default: that of version 1.0)")
    make.add_argument("--frames", type=int, default=20)
    make.add_argument("--size", type=int, default=256, help="pixels across and down")
    make.add_argument("--samples", type=int, default=6, help="light paths per pixel; the denoiser does the rest")
    make.add_argument("--threads", type=int, default=2)
    index = commands.add_parser("index", help="write rooms.json for the rooms that are finished")
    index.add_argument("dir", type=Path, nargs="?", default=HERE)
    measure = commands.add_parser("measure", help="measure a dataset folder, print JSON")
    measure.add_argument("dir", type=Path, nargs="?", default=HERE)
    measure.add_argument("--write", action="store_true", help="also write DIR/statistics.json")
    card = commands.add_parser("card", help="write DIR/README.md from DIR/statistics.json")
    card.add_argument("dir", type=Path, nargs="?", default=HERE)
    sheet = commands.add_parser("sheet", help="a picture of all rooms")
    sheet.add_argument("dir", type=Path, nargs="?", default=HERE)
    sheet.add_argument("--out", type=Path, required=True, metavar="PNG")
    sheet.add_argument("--truth", action="store_true", help="also depth and instances")
    export = commands.add_parser("export", help="write rooms in the release layout of another dataset (needs no bpy)")
    export.add_argument("out", type=Path, metavar="DIR", help="a new folder")
    export.add_argument("--as", dest="layout", choices=["scannet"], required=True)
    export.add_argument("--rooms", type=_rooms, metavar="0-5", help="which rooms (default: all)")
    export.add_argument(
        "--from", dest="dir", type=Path, default=HERE, metavar="ROOMS_DIR", help="default: the shipped rooms"
    )
    return parser


def _run(args: argparse.Namespace) -> int:
    """Do one command. Heavy imports are here, so that --help is quick."""
    if args.command == "make":
        from extract.datasets.roomgen import catalog, layout, produce
        from extract.datasets.roomgen.blender import load
        from extract.datasets.roomgen.render import Quality

        load()
        pack = catalog.open_pack(args.furniture)
        quality = Quality(size=args.size, samples=args.samples, threads=args.threads)
        seed = layout.SEED if args.seed is None else args.seed
        args.out.mkdir(parents=True, exist_ok=True)
        for index in args.rooms:
            produce.make(index, args.out, pack, seed=seed, frames=args.frames, quality=quality)
            produce.write_index(args.out, size=args.size)
    elif args.command == "index":
        from extract.datasets.roomgen import produce

        produce.write_index(args.dir)
    elif args.command == "measure":
        from extract.datasets.roomgen import encode, measure

        result = measure.measure(args.dir)
        text = encode.flat_lists(json.dumps(result, indent=1))
        if args.write:
            (args.dir / "statistics.json").write_text(text + "\n", encoding="utf-8")
        print(text)
    elif args.command == "card":
        from extract.datasets.roomgen import card

        card.write(args.dir)
    elif args.command == "export":
        from extract.datasets.roomgen import as_scannet

        as_scannet.export(args.dir, args.out, args.rooms)
    else:
        from extract.datasets.roomgen import sheet

        sheet.write(args.dir, args.out, truth=args.truth)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line entry; 0 when all went well."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    from extract.datasets.roomgen.errors import RoomError

    try:
        return _run(args)
    except RoomError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
