"""VGGT (Wang et al., arXiv:2503.11651): depth, confidence and cameras of all frames of a recording in one pass.

Needs the package `vggt` of github.com/facebookresearch/vggt, under Meta's licence, which is not on the package index.
What is called is what its README documents: `VGGT.from_pretrained`, `aggregator`, `camera_head`, `depth_head` and
`pose_encoding_to_extri_intri`. This file was tested against a stand-in with these names, not against the package.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import UInt8

from extract.datasets.dl3dv_files.vggt_input import vggt_pictures
from extract.errors import ExtractError
from extract.labelling.base import Made

CHECKPOINT = "facebook/VGGT-1B"


class Vggt:
    """VGGT-1B, or another checkpoint of it. About 30 GB of GPU memory for 150 frames, by the table of its README."""

    name = "vggt"

    def __init__(self, checkpoint: str | None, device: str) -> None:
        try:
            from vggt.models.vggt import VGGT
            from vggt.utils.pose_enc import pose_encoding_to_extri_intri
        except ImportError as error:
            raise ExtractError(
                f"--with vggt: the package vggt cannot be imported ({error}). Install it: "
                "pip install git+https://github.com/facebookresearch/vggt (read its licence first)."
            ) from error
        self.checkpoint = checkpoint or CHECKPOINT
        self.device = device
        self._decode = pose_encoding_to_extri_intri
        try:
            self._model = VGGT.from_pretrained(self.checkpoint).to(device).eval()
        except (OSError, RuntimeError, ValueError) as error:  # not found, of another network, too large for the device
            raise ExtractError(
                f"--checkpoint {self.checkpoint}: cannot be loaded as VGGT on {device} "
                f"({(str(error).splitlines() or [repr(error)])[0]}). Give a folder or a name of the Hub that has it."
            ) from error

    def label(self, frames: UInt8[np.ndarray, "frame y x 3"]) -> Made:
        """The aggregator runs in bfloat16 on GPUs that have it, else in float16, the heads in float32, as VGGT does."""
        import torch

        seen = vggt_pictures(frames)
        try:
            with torch.inference_mode():
                images = torch.from_numpy(seen).to(self.device).permute(0, 3, 1, 2)[None].float() / 255
                with torch.autocast(images.device.type, dtype=_half(), enabled=images.device.type == "cuda"):
                    tokens, first_patch = self._model.aggregator(images)
                encoding = self._model.camera_head(tokens)[-1]
                extrinsic, intrinsic = self._decode(encoding, images.shape[-2:])
                depth, confidence = self._model.depth_head(tokens, images, first_patch)
        except torch.OutOfMemoryError as error:
            raise ExtractError(
                f"--device {self.device}: out of memory with {len(frames)} frames ({str(error).splitlines()[0]}). What "
                "was written is kept. Label fewer frames (--frames 81 are enough for clips), or use a larger GPU."
            ) from error
        return Made(
            images=seen,
            depth=_array(depth)[..., 0],
            confidence=_array(confidence),
            intrinsic=_array(intrinsic),
            extrinsic=_array(extrinsic),
        )


def _half() -> Any:
    import torch

    return torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float16


def _array(batch: Any) -> np.ndarray:
    """The only recording of a batch, in main memory."""
    found: np.ndarray = batch[0].float().cpu().numpy()
    return found
