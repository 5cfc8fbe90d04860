"""From texts and frames to tokens, and where each frame's tokens are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import AutoTokenizer

from extract.errors import ExtractError, WeightsError

if TYPE_CHECKING:
    from extract.vision_language.family import VisionLanguageFamily

Tokenise = Callable[[str], list[int]]


@dataclass(frozen=True)
class Tokens:
    """A chat as a language model reads it.

    Attributes:
        ids: of all tokens.
        starts: position of the first token of every frame.
    """

    ids: list[int]
    starts: list[int]


def lay_out(family: VisionLanguageFamily, tokenise: Tokenise, frames: int) -> Tokens:
    """Put the placeholder tokens of `frames` frames between the texts of the chat.

    Raises:
        ExtractError: the prompt holds a placeholder, or the chat is longer than the model can read.
        WeightsError: the tokenizer is of another model.
    """
    vocabulary, longest = family.text_limits
    ids: list[int] = []
    starts: list[int] = []
    texts = [tokenise(text) for text in family.texts(frames)]
    if any(family.placeholder in each for each in texts):
        raise ExtractError(f"--prompt {family.options.prompt!r}: holds a token that stands for an image. Take it out.")
    if (largest := max(max(each, default=0) for each in texts)) >= vocabulary:
        raise WeightsError(
            f"{family.model}: its tokenizer gives token {largest}, but the network knows {vocabulary}. The tokenizer "
            "is of another model: fetch the folder again, all files of it."
        )
    for before, run in zip(texts, family.runs(frames), strict=False):
        ids += before
        starts.append(len(ids))
        ids += [family.placeholder] * run
    ids += texts[-1]
    if len(ids) > longest:
        smaller = "a smaller --size, or " if "size" in family.takes else ""
        raise ExtractError(
            f"{family.model}: {frames} frames and the prompt make {len(ids)} tokens, and the model reads {longest}. "
            f"Use {smaller}clips with fewer bank frames."
        )
    return Tokens(ids, starts)


def tokeniser(family: VisionLanguageFamily) -> Tokenise:
    """The checkpoint's own; for random weights every byte is a token, which no such network can tell from words."""
    if family.options.untrained is not None:
        return lambda text: list(text.encode())
    return _trained(family, family.weights_root)


def _trained(family: VisionLanguageFamily, root: Path) -> Tokenise:
    try:
        tokenizer = AutoTokenizer.from_pretrained(root, local_files_only=True)
    except Exception as error:  # the tokenizer libraries share no base class of errors
        raise WeightsError(
            f"checkpoint {root}: no tokenizer that transformers can load ({error}). Fetch the folder again, all files."
        ) from error

    def tokenise(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []

    if (found := tokenise(family.placeholder_text)) != [family.placeholder]:
        raise WeightsError(
            f"checkpoint {root}: {family.placeholder_text!r} is {found} to its tokenizer and {family.placeholder} in "
            "config.json. One of them is of another model: fetch the folder again, all files of it."
        )
    torn = [text for text in family.specials if len(tokenise(text)) != 1]
    if torn:
        raise WeightsError(
            f"checkpoint {root}: its tokenizer does not know {_listed(torn)} as single tokens. It is of another model, "
            "or a file of it is missing: fetch the folder again, all files of it."
        )
    return tokenise


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(map(repr, texts))
