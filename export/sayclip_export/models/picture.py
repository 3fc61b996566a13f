"""A small residual CNN as CLIP's image tower (He et al. 2015, arXiv 1512.03385), for the demo's 64 x 64 pictures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from sayclip_export.models.layers import unit


@dataclass(frozen=True)
class PictureConfig:
    """Sizes of the image tower; ``channels`` of the stem and of the three stages."""

    size: int = 64
    channels: tuple[int, int, int, int] = (32, 64, 96, 128)
    embedding: int = 128

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, and ReLU where asked; batch norm is folded at export."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
        self.norm: nn.BatchNorm2d | nn.Identity = nn.BatchNorm2d(out)
        self.relu: nn.Module = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.norm(self.conv(x)))

    def fold(self) -> None:
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv, self.norm = fuse_conv_bn_eval(self.conv, self.norm), nn.Identity()


class Residual(nn.Module):
    """Two 3 x 3 convolutions around a skip; the first may halve the resolution."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = ConvNorm(channels, out, 3, stride), ConvNorm(out, out, 3, relu=False)
        same = stride == 1 and channels == out
        self.skip: nn.Module = nn.Identity() if same else ConvNorm(channels, out, 1, stride, relu=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.second(self.first(x)) + self.skip(x))


class PictureTower(nn.Module):
    """``forward(pixels f32 [B,3,H,W]) -> f32 [B,D]``, L2-normalised."""

    def __init__(self, config: PictureConfig) -> None:
        super().__init__()
        self.config = config
        stem, *stages = config.channels
        self.stem = ConvNorm(3, stem, 3, 2)
        sizes = [stem, *stages]
        self.stages = nn.Sequential(*(Residual(a, b, 2) for a, b in pairwise(sizes)))
        side = config.size // 2 ** (1 + len(stages))
        self.squeeze = ConvNorm(sizes[-1], 32, 1)
        self.hidden = nn.Linear(32 * side * side, 256)
        self.relu = nn.ReLU()
        self.projection = nn.Linear(256, config.embedding, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.squeeze(self.stages(self.stem(pixels)))
        return unit(self.projection(self.relu(self.hidden(x.flatten(1)))))

    def fold(self) -> PictureTower:
        """Fold every batch norm into its convolution, in place; for evaluation and export only."""
        self.eval()
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fold()
        return self
