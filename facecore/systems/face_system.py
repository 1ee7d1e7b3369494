"""What every system says of itself, so that commands need not know which one it is."""

from __future__ import annotations

from torch import nn


class FaceSystem(nn.Module):
    """A trainable module with .reconstruct(images) -> Reconstruction.

    config_hash: of the training's whole configuration; set by whoever trains or loads. name: as `facecore train
    --system` has it; set by whoever loads.
    """

    config_hash: str = ""
    name: str = ""
    aligned: bool = False  # `reconstruct` takes landmarks beside the pictures
    estimates_view: bool = True  # pose and light
    estimates_expression: bool = True

    @property
    def textured(self) -> bool:
        """Whether the albedo is a texture made from a picture: a code alone then has none."""
        return False

    @property
    def caution(self) -> str:
        """What to say of results on photographs; "" = nothing."""
        return ""
