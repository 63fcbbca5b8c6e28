"""Networks that SMP does not have."""

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.base.initialization import initialize_head
from torch import Tensor, nn


class DeepUnet(smp.Unet):
    """SMP's U-Net with deep supervision (Lee et al. 2015): in training the last stages of the decoder have heads of their own.

    Where it predicts it is `smp.Unet`, with its weights under the same keys.

    Args:
        deep_outputs: how many stages before the last have a head, from half the size down. arguments: those of `smp.Unet`.

    Raises:
        ValueError: the decoder has fewer stages.
    """

    def __init__(self, deep_outputs: int, **arguments):
        super().__init__(**arguments)
        blocks = self.decoder.blocks
        if not 1 <= deep_outputs < len(blocks):
            raise ValueError(
                f"model.deep_outputs={deep_outputs}: the decoder has {len(blocks)} stages, the last has a head"
            )
        classes = self.segmentation_head[0].out_channels
        widths = [block.conv2[0].out_channels for block in blocks[-2 : -2 - deep_outputs : -1]]
        self.deep_heads = nn.ModuleList(SegmentationHead(width, classes, 3) for width in widths)
        initialize_head(self.deep_heads)

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Nx3xHxW -> as `smp.Unet`; in training a list: logits NxCxHxW, NxCxH/2xW/2, NxCxH/4xW/4 and so on.

        With `aux_params` the classification head's are the last.
        """
        if not self.training:
            return super().forward(images)
        features = self.encoder(images)
        stages = [self.decoder.center(features[-1])]
        skips = [*features[-2:0:-1], None]
        for block, size, skip in zip(self.decoder.blocks, features[-2::-1], skips, strict=True):
            stages.append(block(stages[-1], *size.shape[2:], skip))
        deep = [head(stage) for head, stage in zip(self.deep_heads, stages[-2:0:-1], strict=False)]
        labels = [self.classification_head(features[-1])] if self.classification_head else []
        return [self.segmentation_head(stages[-1]), *deep, *labels]
