"""Refusing what was asked of a model that it does not heed, before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from extract.errors import ExtractError

if TYPE_CHECKING:
    from extract.backbones.base import Family


def check_options(family: Family) -> None:
    """Raise `ExtractError` if `family.options` asks for what this model does not have or would pass over."""
    asked, model = family.options, family.model
    _check_choice(model, "condition", asked.condition, family.conditions, "is conditioned on no image")
    _check_choice(model, "preset", asked.preset, family.presets, "has no presets")
    _check_choice(model, "attention", asked.attention, family.attentions, "has no attention")
    _check_choice(model, "layout", asked.layout, family.layouts, "has no language model")
    if asked.prompt is not None:
        _check_prompt(model, asked.prompt, family.layouts)
    for flag, got in (("checkpoint", asked.checkpoint), ("revision", asked.revision)):
        if got is not None and flag not in family.takes:
            raise ExtractError(
                f"--{flag} {got}: {model} has one set of weights, {family.published.id}. Leave out --{flag}."
            )
    if asked.size is not None and "size" not in family.takes:
        raise ExtractError(f"--size {asked.size[0]}x{asked.size[1]}: {model} has one size. Leave it out.")
    if asked.untrained is not None and "untrained" not in family.takes:
        raise ExtractError(f"--untrained: {model} cannot be had with random weights. Leave it out.")
    if asked.untrained is not None and (asked.revision or (asked.checkpoint and not Path(asked.checkpoint).is_dir())):
        flag, got = ("revision", asked.revision) if asked.revision else ("checkpoint", asked.checkpoint)
        raise ExtractError(
            f"--{flag} {got}: random weights need a configuration alone, the published one or that of a folder. Leave "
            f"out --{flag}, or give --checkpoint DIR."
        )
    if asked.frames is not None and not family.takes_windows:
        raise ExtractError(f"--frames {asked.frames}: {model} sees no windows of frames. Leave it out.")
    if asked.compiled and not family.compiles:
        raise ExtractError(f"--compile: {model} has no blocks that are known to compile. Leave it out.")
    if asked.batch_clips > 1 and not family.batches:
        raise ExtractError(f"--batch-clips {asked.batch_clips}: {model} computes one clip at a time. Leave it out.")


def _check_prompt(model: str, prompt: str, layouts: Sequence[str]) -> None:
    if not layouts:
        raise ExtractError(f"--prompt {prompt!r}: {model} has no language model. Leave it out.")
    if not prompt.strip():
        raise ExtractError("--prompt: is empty. Leave it out, or write what the model is to read before the frames.")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise ExtractError(f"--prompt {prompt!r}: is no text in UTF-8. Write it anew.") from error


def _check_choice(model: str, flag: str, got: str | None, choices: Sequence[str], none: str) -> None:
    if got is not None and got not in choices:
        takes = f"takes {' | '.join(choices)}" if choices else none
        raise ExtractError(f"--{flag} {got}: {model} {takes}. Leave it out for the default.")
