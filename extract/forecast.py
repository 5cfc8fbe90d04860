"""`python -m extract plan`: what an extraction would take, in words and as JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from extract.estimate import Estimate, TapSize, estimate, suggestions
from store.layout import name_of
from store.sizes import show_size

if TYPE_CHECKING:
    from extract.measured import Measured
    from extract.plan import Outline


def forecast(
    outline: Outline, fingerprint: str | None, notes: list[str], measured: Measured | None, *, as_json: bool
) -> bool:
    """Print what an extraction would take. Returns whether it fits on the disk.

    Args:
        outline: what is asked for.
        fingerprint: of the recipe; `None` if it cannot be told, and `notes` say why.
        notes: about weights and other stores.
        measured: what two clips took.
    """
    sizes = estimate(outline)
    remedies = [] if sizes.fits else list(suggestions(outline, sizes.free))
    found = _document(outline, sizes, fingerprint, notes, measured, remedies)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        _show(outline, sizes, found, measured)
    return sizes.fits


def _document(
    outline: Outline,
    sizes: Estimate,
    fingerprint: str | None,
    notes: list[str],
    measured: Measured | None,
    remedies: list[str],
) -> dict[str, Any]:
    return {
        "store": str(outline.path),
        "fingerprint": fingerprint,
        "notes": notes,
        "clips": sizes.clips,
        "pending": sizes.pending,
        "taps": [_tap(outline, each) for each in sizes.taps],
        "bytes": sizes.bytes,
        "missing_bytes": sizes.missing_bytes,
        "free_bytes": sizes.free,
        "fits": sizes.fits,
        "suggestions": remedies,
        "weight_bytes": sizes.weight_bytes,
        "clip_memory_bytes": sizes.clip_memory,
        "measured": None
        if measured is None
        else {**vars(measured), "clip_s": measured.clip_s, "total_s": _total(sizes, measured)},
    }


def _tap(outline: Outline, size: TapSize) -> dict[str, Any]:
    return {
        "tap": size.tap.name,
        "grid": list(size.grid),
        "channels": size.tap.site.channels,
        "dtype": outline.request.store_dtype,
        "clip_bytes": size.clip_bytes,
        "bytes": size.bytes,
        "missing_clips": size.missing,
    }


def _total(sizes: Estimate, measured: Measured) -> float:
    return measured.load_s + sizes.pending * measured.clip_s if sizes.pending else 0.0


def _show(outline: Outline, sizes: Estimate, found: dict[str, Any], measured: Measured | None) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("site", "noise", "grid", "channels", "a clip", "all clips", "there already")
    for column in table.columns[3:]:
        column.justify = "right"
    for of_site in _by_site(sizes).values():
        first = of_site[0]
        levels = [each.tap.level.name for each in of_site if each.tap.level is not None]
        table.add_row(
            first.tap.site.name,
            " ".join(levels) or "none",
            f"{first.grid[0]}x{first.grid[1]}",
            str(first.tap.site.channels),
            show_size(sum(each.clip_bytes for each in of_site)),
            show_size(sum(each.bytes for each in of_site)),
            " ".join(dict.fromkeys(f"{sizes.clips - each.missing} of {sizes.clips}" for each in of_site)),
        )
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(table)
    for name, text in _lines(outline, sizes, found, measured):
        console.print(f"[bold]{name:<10}[/bold]  ", end="")
        console.print(text, markup=False)


def _by_site(sizes: Estimate) -> dict[str, list[TapSize]]:
    """Taps of one site are as large as each other."""
    sites: dict[str, list[TapSize]] = {}
    for each in sizes.taps:
        sites.setdefault(each.tap.site.name, []).append(each)
    return sites


def _lines(
    outline: Outline, sizes: Estimate, found: dict[str, Any], measured: Measured | None
) -> list[tuple[str, str]]:
    """Name and text of each line below the table."""
    fingerprint = found["fingerprint"] or "not known"
    lines = [("store", f"store/{name_of(outline.path)}, {outline.request.store_dtype}; fingerprint {fingerprint}")]
    lines += [("", note) for note in found["notes"]]
    verdict = "fits" if sizes.fits else "DOES NOT FIT"
    lines.append(
        (
            "disk",
            f"{show_size(sizes.missing_bytes)} to write for {sizes.pending} of {sizes.clips} clips; "
            f"{show_size(sizes.free)} free: {verdict}",
        )
    )
    if not sizes.fits:
        remedies = found["suggestions"] or ["nothing fits: fewer sites or noise levels, --limit, or FEATURE_STORE=DIR"]
        lines += [("", f"would fit: {remedy}" if found["suggestions"] else remedy) for remedy in remedies]
    weights = "of unknown size" if sizes.weight_bytes is None else f"{show_size(sizes.weight_bytes)}"
    lines.append(
        (
            "memory",
            f"weights {weights} in {outline.request.dtype}, frames and features of a clip "
            f"{show_size(sizes.clip_memory)}; what the network holds while it runs comes on top",
        )
    )
    if measured is None:
        lines.append(("time", "not known: --measure runs two clips"))
    else:
        lines.append(
            (
                "time",
                f"{_span(_total(sizes, measured))} for {sizes.pending} clips: {measured.clip_s:.3g} s a clip "
                f"(decode {measured.decode_s:.3g}, compute {measured.compute_s:.3g}), {measured.load_s:.3g} s to load; "
                f"peak memory {show_size(measured.peak)}",
            )
        )
    return lines


def _span(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`, `2.1 days`."""
    for unit, length, until in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 172_800)):
        if seconds < until:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds / 86_400:.3g} days"
