"""What a labeller is: frames of one recording in, depth, confidence and cameras out.

One of your own is a class in a module that Python finds, named by `--with package.module:Class`. It is made with
`Class(checkpoint, device)`, both text, where `checkpoint` is None if the user names none.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from extract.errors import DataError, ExtractError, UnknownNameError
from store.suggest import did_you_mean

LABELLERS = {"vggt": "extract.labelling.vggt:Vggt"}


@dataclass(frozen=True)
class Made:
    """Labels of frames. All arrays have a row per frame, and pictures of one size.

    Attributes:
        images: the pictures that the network saw.
        depth: planar z along the optical axis, in one unit for the recording; not above 0, or not finite = unknown.
        confidence: of depth; more is surer.
        intrinsic: pinholes in pixels of `images`; the centre of the first pixel is (0, 0), as VGGT counts.
        extrinsic: world to camera [R | t], OpenCV axes, positions in the unit of depth.
    """

    images: UInt8[np.ndarray, "frame y x 3"]
    depth: Float32[np.ndarray, "frame y x"]
    confidence: Float32[np.ndarray, "frame y x"]
    intrinsic: Float32[np.ndarray, "frame 3 3"]
    extrinsic: Float32[np.ndarray, "frame 3 4"]

    def check(self) -> None:
        """Raise `ExtractError` unless types and shapes agree, `DataError` if the network lost track of a camera."""
        rows = self.images.shape[:3]
        expected = {
            "images": (np.uint8, (*rows, 3)),
            "depth": (np.float32, rows),
            "confidence": (np.float32, rows),
            "intrinsic": (np.float32, (*rows[:1], 3, 3)),
            "extrinsic": (np.float32, (*rows[:1], 3, 4)),
        }
        for name, (dtype, shape) in expected.items():
            array: np.ndarray = getattr(self, name)
            if array.dtype != dtype or array.shape != shape:
                raise ExtractError(
                    f"the labeller made {name} of {array.dtype} {array.shape} for images {self.images.shape}; "
                    f"expected {np.dtype(dtype)} {shape}. Remedy: mend its adapter."
                )
        if not (np.isfinite(self.intrinsic).all() and np.isfinite(self.extrinsic).all()):
            raise DataError("the labeller made cameras that are not finite. Remedy: label fewer frames: --frames 80")


@runtime_checkable
class Labeller(Protocol):
    """A network that labels a recording as a whole. Its weights are loaded when it is made.

    Attributes:
        name: written into every file, and into the recipe of whatever is made of it.
        checkpoint: the weights, likewise.
    """

    name: str
    checkpoint: str

    def label(self, frames: UInt8[np.ndarray, "frame y x 3"]) -> Made:
        """Labels of consecutive frames. The pictures have to be those of `vggt_pictures`, to which readers compare.

        Raises:
            ExtractError: it cannot, for a reason that the user can mend.
        """


def make_labeller(reference: str, checkpoint: str | None, device: str) -> Labeller:
    """The labeller of a name, or of `package.module:Class`.

    Raises:
        UnknownNameError: there is none.
        ExtractError: its package is not installed, or it is no labeller.
    """
    if ":" not in reference and reference not in LABELLERS:
        raise UnknownNameError(did_you_mean("labeller", reference, LABELLERS) + " Or give package.module:Class.")
    place, _, name = LABELLERS.get(reference, reference).partition(":")
    try:
        made = getattr(importlib.import_module(place), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownNameError(
            f"labeller {reference!r}: cannot be imported ({error}). Give package.module:Class, where the module is "
            "installed or in the current folder."
        ) from error
    labeller = made(checkpoint, device)
    if not isinstance(labeller, Labeller):
        raise ExtractError(f"labeller {reference!r}: lacks name, checkpoint or label; see extract/labelling/base.py.")
    return labeller
