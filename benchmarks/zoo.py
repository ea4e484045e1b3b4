"""Networks to measure end to end, written after their papers and public definitions.

Only what convolutions and pooling see is kept faithful: channels, kernels, strides, sizes.
Weights are random. Each factory's docstring has its source; INPUTS has a usual input.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

INPUTS = {
    "resnet50": (1, 3, 224, 224),
    "mobilenet_v2": (1, 3, 224, 224),
    "convnext_tiny": (1, 3, 224, 224),
    "unet3d": (1, 1, 64, 64, 64),
    "wav2vec2_encoder": (1, 1, 16000),
    "hifigan": (1, 80, 64),
    "diffusion_unet": (1, 4, 32, 32),
    "vae_decoder": (1, 4, 16, 16),
}


class Sum(nn.Module):
    """x + body(x), or shortcut(x) + body(x)."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x) + self.shortcut(x)
        return y


def _conv_bn(
    c: int, k: int, r: int, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(c, k, r, stride, r // 2, groups=groups, bias=False),
        nn.BatchNorm2d(k),
    ]
    return nn.Sequential(*layers, *([nn.ReLU6()] if act else []))


def resnet50() -> nn.Module:
    """ResNet-50 (He et al. 2015), v1.5: the stride in the 3x3 convolution."""
    blocks: list[nn.Module] = []
    channels = 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(count):
            s = stride if i == 0 else 1
            body = nn.Sequential(
                _conv_bn(channels, width, 1),
                _conv_bn(width, width, 3, s),
                _conv_bn(width, 4 * width, 1, act=False),
            )
            first = _conv_bn(channels, 4 * width, 1, s, act=False) if i == 0 else None
            blocks += [Sum(body, first), nn.ReLU()]
            channels = 4 * width
    return nn.Sequential(
        _conv_bn(3, 64, 7, 2),
        nn.MaxPool2d(3, 2, 1),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, 1000),
    )


def mobilenet_v2() -> nn.Module:
    """MobileNetV2 (Sandler et al. 2018), width 1.0."""
    plan = (
        *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
        *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    )
    blocks: list[nn.Module] = [_conv_bn(3, 32, 3, 2)]
    channels = 32
    for expand, out, count, stride in plan:
        for i in range(count):
            s = stride if i == 0 else 1
            wide = channels * expand
            body = nn.Sequential(
                *([_conv_bn(channels, wide, 1)] if expand > 1 else []),
                _conv_bn(wide, wide, 3, s, groups=wide),
                _conv_bn(wide, out, 1, act=False),
            )
            blocks.append(Sum(body) if s == 1 and channels == out else body)
            channels = out
    return nn.Sequential(
        *blocks,
        _conv_bn(channels, 1280, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(1280, 1000),
    )


def convnext_tiny() -> nn.Module:
    """ConvNeXt-T (Liu et al. 2022), pointwise layers as 1x1 convolutions, its first
    variant; normalisation by GroupNorm of one group."""

    def block(c: int) -> nn.Module:
        return Sum(
            nn.Sequential(
                nn.Conv2d(c, c, 7, padding=3, groups=c),
                nn.GroupNorm(1, c),
                nn.Conv2d(c, 4 * c, 1),
                nn.GELU(),
                nn.Conv2d(4 * c, c, 1),
            )
        )

    layers: list[nn.Module] = []
    channels = 3
    for width, count in ((96, 3), (192, 3), (384, 9), (768, 3)):
        r = 4 if channels == 3 else 2
        layers += [
            nn.Conv2d(channels, width, r, r),
            *(block(width) for _ in range(count)),
        ]
        channels = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000)
    )


class UNet3d(nn.Module):
    """3D U-Net (Cicek et al. 2016) with the padded convolutions of nnU-Net."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 256)) -> None:
        super().__init__()

        def double(c: int, k: int) -> nn.Module:
            layers: list[nn.Module] = []
            for first in (c, k):
                layers += [nn.Conv3d(first, k, 3, padding=1), nn.InstanceNorm3d(k)]
                layers.append(nn.LeakyReLU(0.01))
            return nn.Sequential(*layers)

        self.down = nn.ModuleList(double(c, k) for c, k in zip((1, *widths), widths))
        self.pool = nn.MaxPool3d(2)
        pairs = list(zip(widths[:0:-1], widths[-2::-1]))
        self.up = nn.ModuleList(nn.ConvTranspose3d(c, k, 2, 2) for c, k in pairs)
        self.merge = nn.ModuleList(double(2 * k, k) for _, k in pairs)
        self.head = nn.Conv3d(widths[0], 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for i, stage in enumerate(self.down):
            x = stage(x if i == 0 else self.pool(x))
            kept.append(x)
        for i, (up, merge) in enumerate(zip(self.up, self.merge)):
            x = merge(torch.cat([up(x), kept[-2 - i]], 1))
        y: Tensor = self.head(x)
        return y


def unet3d() -> nn.Module:
    """A 3-d U-Net of four levels."""
    return UNet3d()


def wav2vec2_encoder() -> nn.Module:
    """Feature encoder of wav2vec 2.0 (Baevski et al. 2020), and the convolution that
    encodes positions."""
    layers: list[nn.Module] = []
    channels = 1
    for r, stride in ((10, 5), *[(3, 2)] * 4, *[(2, 2)] * 2):
        layers += [nn.Conv1d(channels, 512, r, stride, bias=False), nn.GELU()]
        channels = 512
    position = nn.Conv1d(768, 768, 128, padding=64, groups=16)
    return nn.Sequential(*layers, nn.Conv1d(512, 768, 1), position, nn.GELU())


def hifigan() -> nn.Module:
    """Generator of HiFi-GAN V1 (Kong et al. 2020); of the three residual stacks that are
    averaged at each level, the one with kernel 7."""
    layers: list[nn.Module] = [nn.Conv1d(80, 512, 7, padding=3)]
    channels = 512
    for r, stride in ((16, 8), (16, 8), (4, 2), (4, 2)):
        pad = (r - stride) // 2
        layers.append(nn.ConvTranspose1d(channels, channels // 2, r, stride, pad))
        channels //= 2
        for dilation in (1, 3, 5):
            body = nn.Sequential(
                nn.LeakyReLU(0.1),
                nn.Conv1d(
                    channels, channels, 7, padding=3 * dilation, dilation=dilation
                ),
                nn.LeakyReLU(0.1),
                nn.Conv1d(channels, channels, 7, padding=3),
            )
            layers.append(Sum(body))
    return nn.Sequential(*layers, nn.Conv1d(channels, 1, 7, padding=3), nn.Tanh())


def _resnet_block(c: int, k: int) -> nn.Module:
    body = nn.Sequential(
        nn.GroupNorm(32, c),
        nn.SiLU(),
        nn.Conv2d(c, k, 3, padding=1),
        nn.GroupNorm(32, k),
        nn.SiLU(),
        nn.Conv2d(k, k, 3, padding=1),
    )
    return Sum(body, None if c == k else nn.Conv2d(c, k, 1))


class DiffusionUNet(nn.Module):
    """The convolutions of a latent-diffusion U-Net (Rombach et al. 2022, the widths of
    Stable Diffusion 1); the projections of the attention blocks stand for them."""

    def __init__(self, widths: tuple[int, ...] = (320, 640, 1280, 1280)) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        sizes = [channels := widths[0]]
        for level, width in enumerate(widths):
            for _ in range(2):
                self.down.append(
                    nn.Sequential(
                        _resnet_block(channels, width), nn.Conv2d(width, width, 1)
                    )
                )
                sizes.append(channels := width)
            if level < len(widths) - 1:
                self.down.append(nn.Conv2d(width, width, 3, 2, 1))
                sizes.append(width)
        self.middle = nn.Sequential(_resnet_block(channels, channels))
        for level, width in reversed(list(enumerate(widths))):
            for i in range(3):
                layers = [_resnet_block(channels + sizes.pop(), width)]
                if i == 2 and level:
                    layers += [nn.Upsample(scale_factor=2)]
                    layers += [nn.Conv2d(width, width, 3, padding=1)]
                self.up.append(nn.Sequential(*layers))
                channels = width
        self.last = nn.Conv2d(channels, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kept = [x := self.first(x)]
        for stage in self.down:
            kept.append(x := stage(x))
        x = self.middle(x)
        for stage in self.up:
            x = stage(torch.cat([x, kept.pop()], 1))
        y: Tensor = self.last(x)
        return y


def diffusion_unet() -> nn.Module:
    """The denoiser of latent diffusion."""
    return DiffusionUNet()


def vae_decoder() -> nn.Module:
    """The convolutions of the decoder of latent diffusion's autoencoder (Rombach et al.
    2022): latents to an image eight times as large."""
    layers: list[nn.Module] = [nn.Conv2d(4, 512, 3, padding=1)]
    channels = 512
    for level, width in enumerate((512, 512, 256, 128)):
        for _ in range(3):
            layers.append(_resnet_block(channels, width))
            channels = width
        if level < 3:
            layers.append(nn.Upsample(scale_factor=2))
            layers.append(nn.Conv2d(width, width, 3, padding=1))
    layers += [nn.GroupNorm(32, channels), nn.SiLU()]
    return nn.Sequential(*layers, nn.Conv2d(channels, 3, 3, padding=1))


MODELS = {
    factory.__name__: factory
    for factory in (
        resnet50,
        mobilenet_v2,
        convnext_tiny,
        unet3d,
        wav2vec2_encoder,
        hifigan,
        diffusion_unet,
        vae_decoder,
    )
}
