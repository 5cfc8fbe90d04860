"""`python -m probes.export`: a folder of trained probes that can be pushed to a hub. Loading it runs no code."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probes.terminal import run_app

if TYPE_CHECKING:
    from evaluate.schema import RunInfo
    from probes.checkpoint import Card

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def export(
    run: Annotated[Path, typer.Option(help="Run directory whose probes are exported.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it must not exist.")],
) -> None:
    """Write weights as safetensors, what they are as JSON, and a README that says how to use and push them."""
    from evaluate.schema import read_info
    from probes.checkpoint import CARD, WEIGHTS, load
    from probes.errors import RunExistsError

    info = read_info(run / "run.json")
    _, card = load(run)  # what is damaged is not passed on
    if out.exists():
        raise RunExistsError(f"{out}: exists. Choose another --out, or remove it.")
    draft = out.with_name(f".{out.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for name in (WEIGHTS, CARD, "run.json"):
        shutil.copyfile(run / name, draft / name)
    (draft / "README.md").write_text(_readme(out.name, info, card), encoding="utf-8")
    draft.rename(out)
    print(f"{out}: {len(card.probes)} probes. Push it: hf upload OWNER/{out.name} {out}")


def _readme(name: str, info: RunInfo, card: Card) -> str:
    """The card that a hub shows: what the probes read, what they say, and how to load them."""
    tasks = dict.fromkeys(probe.task for probe in card.probes)
    first = card.probes[0]
    controls = sum(probe.shuffled for probe in card.probes)
    counted = f"{len(card.probes) - controls} probes{f' and {controls} controls (shuffled labels)' if controls else ''}"
    return f"""---
library_name: safetensors
tags: [linear-probe, frozen-features]
---
# {name}

{counted} ({", ".join(tasks)}) on frozen features of `{info.title}`, trained on `{info.dataset}`.

- Features: `{card.features}`, fingerprint `{card.fingerprint}`. The probes read no other backbone's features.
- Targets: fingerprint `{info.targets_fingerprint}`. Command: `{info.command}`.
- `probes.safetensors` holds weights and standardisers, `probes.json` what they belong to, `run.json` how they were
  trained and measured. Nothing here is code.

Measure them on another store of the same backbone:

```
python -m probes.test --run {name} --features store/{card.features.split("/")[0]}
```

Use them:

```python
from pathlib import Path
from probes.checkpoint import load

bank, card = load(Path("{name}"))
index = [probe.id for probe in bank.probes].index("{first.id}")
outputs = bank(index, bank.grid("{first.tap}", features))  # features: (clip, view, y, x, channel)
```
"""


if __name__ == "__main__":
    run_app(app, "nothing was written")
