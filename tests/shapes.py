"""The one table of named problems: what tests, benchmarks and planner tuning run.

Sizes are those of real layers scaled down until a float64 comparison takes
milliseconds, plus the awkward ones: one less and one more than a register tile holds,
odd channels, kernels larger than the input, strides larger than the kernel, borders on
one side only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torchconv import reference

Ints = int | tuple[int, ...]
Padding = str | Ints | tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Conv:
    """A convolution problem in the words of torch.nn.functional."""

    name: str
    x_size: tuple[int, ...]  # (N, C, *spatial)
    filters: int
    kernel: tuple[int, ...]
    stride: Ints = 1
    padding: Padding = 0
    dilation: Ints = 1
    groups: int = 1
    padding_mode: str = "zeros"

    @property
    def nd(self) -> int:
        return len(self.kernel)

    @property
    def weight_size(self) -> tuple[int, ...]:
        return (self.filters, self.x_size[1] // self.groups, *self.kernel)

    @property
    def strides(self) -> tuple[int, ...]:
        return reference.each(self.stride, self.nd)

    @property
    def dilations(self) -> tuple[int, ...]:
        return reference.each(self.dilation, self.nd)

    @property
    def pads(self) -> tuple[tuple[int, int], ...]:
        return reference.padding_pairs(self.padding, self.kernel, self.dilations)

    @property
    def out_size(self) -> tuple[int, ...]:
        """(N, K, *spatial) of the output."""
        spatial = reference.conv_output_size(
            self.x_size[2:], self.kernel, self.strides, self.pads, self.dilations
        )
        return (self.x_size[0], self.filters, *spatial)

    @property
    def products(self) -> int:
        """Multiplications of the forward pass (of reads inside the padded input)."""
        return math.prod(self.out_size) * math.prod(self.weight_size[1:])

    @property
    def work(self) -> int:
        """What the tests' choice of problems by size goes by."""
        return self.products

    def scaled(self, most: int) -> Conv:
        """The same options on fewer samples, channels and positions, so that the work is
        `most` or little more: what is largest is halved until it is."""
        batch, channels, *size = self.x_size
        groups = self.groups
        counts = {
            "batch": batch,
            "groups": groups,
            "channels": channels // groups,
            "filters": self.filters // groups,
            **{str(d): s for d, s in enumerate(size)},
        }
        # Two positions of the output stay, and padding that shows the input stays narrower
        # than it.
        least = {}
        for d, (pads, k, dilation, stride) in enumerate(
            zip(self.pads, self.kernel, self.dilations, self.strides, strict=True)
        ):
            reach = (k - 1) * dilation + 1 + stride - sum(pads)
            shown = 0 if self.padding_mode == "zeros" else max(pads) + 1
            least[str(d)] = max(2, reach, shown)
        least = {name: least.get(name, 2) for name in counts}
        found = self
        while found.work > most:
            name = max(counts, key=lambda n: counts[n] / least[n])
            if counts[name] <= least[name]:
                break
            counts[name] = max((counts[name] + 1) // 2, least[name])
            groups = counts["groups"]
            found = replace(
                self,
                x_size=(
                    counts["batch"],
                    groups * counts["channels"],
                    *(counts[str(d)] for d in range(self.nd)),
                ),
                filters=groups * counts["filters"],
                groups=groups,
            )
        return found


@dataclass(frozen=True)
class ConvTranspose:
    """A transposed convolution in the words of torch.nn.functional."""

    name: str
    x_size: tuple[int, ...]
    filters: int
    kernel: tuple[int, ...]
    stride: Ints = 1
    padding: Ints = 0
    output_padding: Ints = 0
    groups: int = 1
    dilation: Ints = 1

    @property
    def nd(self) -> int:
        return len(self.kernel)

    @property
    def weight_size(self) -> tuple[int, ...]:
        return (self.x_size[1], self.filters // self.groups, *self.kernel)

    @property
    def work(self) -> int:
        """Multiplications."""
        return math.prod(self.x_size) * math.prod(self.weight_size[1:])


@dataclass(frozen=True)
class Pool:
    """A pooling problem: `kind` is "max", "avg" or "lp"; unused options stay default."""

    name: str
    x_size: tuple[int, ...]
    kernel: Ints
    stride: Ints | None = None
    padding: Ints = 0
    dilation: Ints = 1
    ceil_mode: bool = False

    @property
    def nd(self) -> int:
        return len(self.x_size) - 2

    @property
    def work(self) -> int:
        """About how many taps all windows have together."""
        kernel = reference.each(self.kernel, self.nd)
        stride = kernel if self.stride is None else reference.each(self.stride, self.nd)
        return math.prod(self.x_size) * math.prod(kernel) // math.prod(stride)


def _conv(
    name: str, x_size: Sequence[int], filters: int, kernel: Ints, **options: object
) -> Conv:
    sizes = reference.each(kernel, len(x_size) - 2)
    return Conv(name, tuple(x_size), filters, sizes, **options)  # type: ignore[arg-type]


def _transpose(
    name: str, x_size: Sequence[int], filters: int, kernel: Ints, **options: object
) -> ConvTranspose:
    sizes = reference.each(kernel, len(x_size) - 2)
    return ConvTranspose(name, tuple(x_size), filters, sizes, **options)  # type: ignore[arg-type]


# Layers of real networks, their channels and planes scaled down.
REAL = [
    _conv("resnet_stem_7x7s2", (1, 3, 33, 33), 16, 7, stride=2, padding=3),
    _conv("resnet_1x1", (2, 64, 7, 7), 32, 1),
    _conv("resnet_1x1s2", (2, 32, 14, 14), 64, 1, stride=2),
    _conv("resnet_3x3", (2, 32, 14, 14), 32, 3, padding=1),
    _conv("resnet_3x3s2", (2, 32, 14, 14), 32, 3, stride=2, padding=1),
    _conv("vgg_3x3", (1, 16, 28, 28), 32, 3, padding=1),
    _conv("unet_valid_3x3", (1, 16, 20, 20), 16, 3),
    _conv("resnext_3x3g", (1, 64, 7, 7), 64, 3, padding=1, groups=16),
    _conv("resnext_3x3g_rest", (2, 36, 9, 17), 36, 3, padding=1, groups=9),
    _conv("grouped_2_to_7", (1, 6, 7, 16), 21, (3, 2), stride=2, groups=3),
    _conv("shufflenet_1x1g", (2, 48, 7, 7), 48, 1, groups=3),
    _conv("mobilenet_dw3x3", (2, 32, 14, 14), 32, 3, padding=1, groups=32),
    _conv("mobilenet_dw3x3s2", (1, 24, 15, 15), 24, 3, stride=2, padding=1, groups=24),
    _conv("efficientnet_dw5x5", (1, 16, 14, 14), 16, 5, padding=2, groups=16),
    _conv("convnext_dw7x7", (1, 24, 14, 14), 24, 7, padding=3, groups=24),
    _conv("convnext_patch_4x4s4", (1, 3, 32, 32), 24, 4, stride=4),
    _conv("vit_patch_16x16s16", (1, 3, 32, 32), 32, 16, stride=16),
    _conv("patch_3d_covers", (3, 3, 2, 8, 8), 23, (2, 8, 8), stride=(2, 8, 8)),
    # Few channels out of many: 19 windows a tile, and blocks across samples.
    _conv("head_1", (2, 70, 3, 37), 1, 1),
    _conv("head_2_s2", (3, 67, 7, 9), 2, 1, stride=2),
    _conv("head_5", (2, 65, 5, 7), 5, 1),
    _conv("head_long_11", (1, 270, 3, 13), 11, 1),
    _conv("patch_rest", (2, 3, 37, 49), 11, (12, 16), stride=(12, 16)),
    _conv("squeeze_1x1", (7, 70, 1, 1), 13, 1),
    _conv("head_covers_g", (5, 36, 7, 7), 10, 7, groups=2),
    _conv("inception_1x7", (1, 24, 17, 17), 24, (1, 7), padding=(0, 3)),
    _conv("inception_7x1", (1, 24, 17, 17), 24, (7, 1), padding=(3, 0)),
    _conv("deeplab_d6", (1, 16, 17, 17), 16, 3, padding=6, dilation=6),
    _conv("wavenet_d4", (2, 16, 40), 32, 2, padding="causal", dilation=4),
    _conv("wav2vec_stem", (1, 1, 200), 24, 10, stride=5),
    _conv("wav2vec_k3s2", (1, 32, 41), 32, 3, stride=2),
    _conv("tcn_dw_k31", (1, 16, 50), 16, 31, padding=15, groups=16),
    _conv("mamba_causal_k4", (2, 24, 33), 24, 4, padding="causal", groups=24),
    _conv("r3d_3x3x3", (1, 8, 6, 9, 9), 16, 3, padding=1),
    _conv("c3d_stem_s122", (1, 3, 6, 13, 13), 16, 3, stride=(1, 2, 2), padding=1),
    _conv("r2plus1d_1x3x3", (1, 16, 4, 9, 9), 18, (1, 3, 3), padding=(0, 1, 1)),
    _conv("r2plus1d_3x1x1", (1, 18, 6, 7, 7), 16, (3, 1, 1), padding=(1, 0, 0)),
    _conv("x3d_dw3x3x3", (1, 18, 5, 8, 8), 18, 3, padding=1, groups=18),
]

# Widths and channels around the edges of register tiles.
WIDTHS = (1, 2, 5, 6, 7, 8, 13, 14, 15, 16, 17, 27, 28, 29, 31, 33)
CHANNELS = (1, 2, 3, 5, 7, 8, 15, 16, 17, 18, 31, 32, 33, 36, 64, 65)

TILES = [
    *(_conv(f"width_{w}", (1, 3, 4, w), 17, 3, padding=1) for w in WIDTHS),
    *(
        _conv(f"width_{w}_k2s2", (1, 2, 3, 2 * w), 9, (2, 2), stride=2)
        for w in WIDTHS[::3]
    ),
    *(
        _conv(f"channels_{c}_to_{k}", (1, c, 3, 7), k, 3, padding=1)
        for c, k in zip(CHANNELS, CHANNELS[::-1], strict=True)
    ),
    *(_conv(f"filters_{k}_1x1", (2, 5, 3, 5), k, 1) for k in CHANNELS[1::2]),
    *(
        _conv(f"dw_{c}", (2, c, 5, 9), c, 3, padding=1, groups=c)
        for c in (2, 3, 8, 15, 16, 17, 33)
    ),
    *(_conv(f"length_{w}", (2, 3, w), 5, 3, padding=1) for w in WIDTHS[1::3]),
    *(
        _conv(f"dw_width_{w}", (1, 4, 3, w), 4, 3, padding=1, groups=4)
        for w in WIDTHS[::2]
    ),
]

# Every option by itself and against others.
OPTIONS = [
    _conv("kernel_beyond_input", (1, 3, 2, 2), 4, 5, padding=2),
    _conv("kernel_beyond_input_1d", (2, 3, 3), 4, 7, padding=3),
    _conv("kernel_is_input", (2, 3, 4, 5), 6, (4, 5)),
    _conv("stride_beyond_kernel", (1, 3, 11, 13), 5, 2, stride=(4, 5)),
    _conv("stride_beyond_input", (1, 3, 4, 4), 5, 3, stride=9, padding=1),
    _conv("one_pixel", (3, 5, 1, 1), 7, 1),
    _conv("one_pixel_3x3", (2, 5, 1, 1), 7, 3, padding=1),
    _conv("padding_beyond_kernel", (1, 2, 4, 4), 3, 2, padding=4),
    _conv("even_kernel", (1, 3, 8, 9), 5, (2, 4), padding=1),
    _conv("even_kernel_same", (1, 3, 8, 9), 5, (2, 4), padding="same"),
    _conv("same_dilated", (1, 3, 9, 10), 5, (3, 2), padding="same", dilation=(2, 3)),
    _conv("valid", (1, 3, 6, 6), 4, 3, padding="valid", stride=2),
    _conv("full", (1, 3, 5, 6), 4, (3, 2), padding="full"),
    _conv("full_dilated_1d", (1, 3, 7), 4, 3, padding="full", dilation=2),
    _conv("causal_2d", (1, 3, 5, 6), 4, (3, 2), padding="causal"),
    _conv("asymmetric", (1, 3, 7, 8), 5, 3, padding=((0, 2), (3, 1))),
    _conv("asymmetric_s2", (1, 3, 7, 8), 5, 3, stride=2, padding=((2, 0), (0, 1))),
    _conv("asymmetric_1d", (2, 3, 9), 5, 4, stride=3, padding=((3, 0),)),
    _conv("asymmetric_3d", (1, 2, 4, 5, 3), 3, 2, padding=((1, 0), (0, 1), (2, 0))),
    _conv("asymmetric_dw", (1, 6, 7, 8), 6, 3, padding=((0, 2), (2, 1)), groups=6),
    _conv("dilation", (1, 3, 12, 13), 5, 3, dilation=(2, 3)),
    _conv("dilation_beyond_input", (1, 3, 4, 4), 5, 3, dilation=3, padding=3),
    _conv("dilation_s2", (1, 3, 12, 13), 5, 3, dilation=2, stride=2, padding=2),
    _conv(
        "mixed_2d",
        (2, 4, 9, 12),
        6,
        (3, 2),
        stride=(2, 3),
        padding=(2, 1),
        dilation=(1, 2),
        groups=2,
    ),
    _conv(
        "mixed_3d",
        (1, 4, 5, 6, 7),
        6,
        (2, 3, 1),
        stride=(1, 2, 3),
        padding=(1, 2, 0),
        dilation=(2, 1, 1),
        groups=2,
    ),
    _conv("mixed_1d", (2, 6, 17), 9, 4, stride=3, padding=2, dilation=2, groups=3),
    _conv("groups_2_odd", (1, 6, 6, 7), 10, 3, padding=1, groups=2),
    _conv("groups_one_filter_each", (1, 12, 5, 6), 4, 3, padding=1, groups=4),
    _conv("groups_17_to_each", (1, 4, 4, 6), 34, 3, padding=1, groups=2),
    _conv("dw_multiplier_2", (1, 5, 6, 7), 10, 3, padding=1, groups=5),
    _conv(
        "dw_multiplier_3_s2",
        (2, 4, 7, 9),
        12,
        (3, 5),
        stride=2,
        padding=(1, 2),
        groups=4,
    ),
    _conv("dw_dilated", (1, 8, 10, 11), 8, 3, padding=2, dilation=2, groups=8),
    _conv("dw_dilated_vector", (1, 19, 9, 34), 19, 3, padding=2, dilation=2, groups=19),
    _conv(
        "dw_dilated_uneven",
        (2, 17, 7, 18),
        17,
        (5, 3),
        padding=(9, 0),
        dilation=(3, 5),
        groups=17,
    ),
    _conv("dw_dilated_1d", (1, 3, 70), 3, 5, padding=14, dilation=7, groups=3),
    _conv(
        "dw_dilated_beyond_input",
        (1, 16, 3, 4),
        16,
        3,
        padding=(11, 4),
        dilation=(5, 4),
        groups=16,
    ),
    _conv("dw_s3", (1, 8, 10, 11), 8, 3, stride=3, padding=1, groups=8),
    _conv("dw_1d", (2, 7, 21), 7, 5, padding=2, groups=7),
    _conv("dw_3d", (1, 5, 4, 5, 6), 5, (2, 3, 3), padding=(1, 1, 1), groups=5),
    _conv("dw_planes_padded", (1, 2, 2, 7, 19), 2, (1, 3, 3), padding=1, groups=2),
    _conv("dw_kernel_beyond_input", (1, 4, 2, 3), 4, 7, padding=3, groups=4),
    _conv("dw_stride_beyond_kernel", (1, 4, 9, 11), 4, 2, stride=(3, 4), groups=4),
    _conv("one_channel", (2, 1, 9, 9), 1, 3, padding=1),
    _conv("one_channel_k4", (1, 1, 9, 10), 1, 4, stride=2),
    _conv("empty_batch", (0, 3, 6, 6), 4, 3, padding=1),
    _conv("empty_batch_dw", (0, 4, 6, 6), 4, 3, padding=1, groups=4),
    _conv("empty_batch_1d", (0, 3, 9), 4, 3),
    _conv("empty_batch_3d", (0, 3, 4, 4, 4), 4, 2),
    _conv("deep_reduction", (1, 300, 3, 5), 4, 3, padding=1),
    _conv("wide_plane", (1, 2, 3, 150), 3, 3, padding=1),
    _conv("tall_plane", (1, 2, 150, 3), 3, 3, padding=1),
    _conv("pointwise_1d", (2, 7, 19), 11, 1),
    _conv("pointwise_3d", (1, 7, 3, 4, 5), 11, 1),
    _conv("pointwise_padded", (1, 3, 4, 5), 6, 1, padding=2),
]

# Padding modes; reflect needs padding < size, circular padding <= size.
MODES = ("reflect", "replicate", "circular")
PADDED = [
    problem
    for mode in MODES
    for problem in (
        _conv(f"{mode}_1d", (2, 3, 9), 5, 5, padding=2, padding_mode=mode),
        _conv(f"{mode}_2d", (1, 3, 6, 7), 5, 3, padding=1, padding_mode=mode),
        _conv(f"{mode}_3d", (1, 2, 4, 5, 6), 3, 3, padding=1, padding_mode=mode),
        _conv(f"{mode}_s2", (1, 3, 7, 8), 5, 5, stride=2, padding=2, padding_mode=mode),
        _conv(f"{mode}_widest", (1, 2, 4, 5), 3, 3, padding=(3, 4), padding_mode=mode),
        _conv(
            f"{mode}_asymmetric",
            (1, 3, 6, 7),
            5,
            (3, 4),
            padding=((0, 2), (3, 1)),
            padding_mode=mode,
        ),
        _conv(
            f"{mode}_dilated",
            (1, 3, 8, 9),
            5,
            3,
            padding=2,
            dilation=2,
            groups=1,
            padding_mode=mode,
        ),
        _conv(
            f"{mode}_groups", (1, 4, 6, 7), 6, 3, padding=1, groups=2, padding_mode=mode
        ),
        _conv(
            f"{mode}_dw", (1, 18, 6, 7), 18, 3, padding=1, groups=18, padding_mode=mode
        ),
        _conv(
            f"{mode}_same", (1, 3, 6, 7), 17, (4, 3), padding="same", padding_mode=mode
        ),
        _conv(f"{mode}_beyond_input", (1, 3, 3, 3), 4, 5, padding=2, padding_mode=mode),
    )
]

# More than one cache block of pixels, channels or filters, of few products.
BLOCKS = [
    _conv("long_row", (1, 2, 6000), 3, 5, padding=2),
    _conv("long_row_s2", (1, 3, 5001), 2, 4, stride=2, padding=1),
    _conv("long_row_dw", (1, 3, 4100), 3, 3, padding=1, groups=3),
    _conv("long_rows", (1, 3, 5, 1300), 5, 3, padding=1),
    _conv("long_rows_1x1", (1, 9, 2, 1100), 20, 1),
    _conv("large_plane", (1, 4, 90, 91), 6, 3, padding=1),
    _conv("large_plane_s2", (2, 3, 120, 121), 8, 5, stride=2, padding=2),
    _conv(
        "large_plane_circular", (1, 3, 80, 81), 4, 3, padding=1, padding_mode="circular"
    ),
    # Strips of every fourth row are rounded up to rows beyond the padding.
    *(
        _conv(
            f"{mode}_s4_groups_{groups}",
            (2, 8, 3, 33),
            8,
            5,
            stride=4,
            padding=((2, 2), (0, 0)),
            groups=groups,
            padding_mode=mode,
        )
        for mode in MODES
        for groups in (1, 4, 8)
    ),
    _conv(
        "circular_s4_one_turn",
        (2, 8, 2, 33),
        8,
        5,
        stride=4,
        padding=((2, 2), (0, 0)),
        groups=4,
        padding_mode="circular",
    ),
    _conv("large_plane_dw", (1, 5, 100, 101), 5, 5, padding=2, groups=5),
    _conv("large_volume", (1, 2, 20, 30, 31), 3, 3, padding=1),
    _conv("many_channels", (1, 700, 4, 5), 9, 3, padding=1),
    _conv("many_channels_1x1", (2, 1100, 3, 3), 10, 1),
    _conv("many_filters", (1, 9, 4, 5), 700, 3, padding=1),
    _conv("many_groups", (1, 320, 5, 6), 640, 3, padding=1, groups=160),
    _conv("many_channels_dw", (1, 300, 6, 7), 300, 3, padding=1, groups=300),
    _conv("many_samples", (70, 3, 6, 7), 5, 3, padding=1),
    _conv("many_taps", (1, 2, 40, 41), 3, 31, padding=15),
    _conv("deep_and_wide", (1, 200, 7, 33), 40, 3, padding=1),
    # Enough padding and work for direct to skip what only sees zeros.
    _conv("padded_plane", (1, 64, 20, 22), 20, 3, padding=2, dilation=2),
    _conv("padded_volume", (1, 32, 6, 8, 9), 16, 3, padding=1),
    _conv("padded_rows", (1, 300, 14, 18), 20, 3, padding=6, dilation=6),
]

CONVS = [*REAL, *TILES, *OPTIONS, *PADDED, *BLOCKS]

CONV_TRANSPOSES = [
    _transpose("gan_4x4s2", (1, 32, 4, 4), 16, 4, stride=2, padding=1),
    _transpose("unet_up_2x2s2", (1, 16, 7, 7), 8, 2, stride=2),
    _transpose("vocoder_k16s8", (1, 16, 9), 8, 16, stride=8, padding=4),
    _transpose("plain_3x3", (2, 3, 5, 6), 4, 3),
    _transpose(
        "output_padding", (1, 3, 5, 6), 4, 3, stride=2, padding=1, output_padding=1
    ),
    _transpose(
        "output_padding_dilation",
        (1, 3, 5, 6),
        4,
        3,
        stride=1,
        padding=1,
        output_padding=(1, 0),
        dilation=2,
    ),
    _transpose(
        "stride_beyond_kernel", (1, 3, 4, 5), 4, 2, stride=(3, 4), output_padding=(2, 3)
    ),
    _transpose("padding_crops", (1, 3, 5, 5), 4, 3, padding=2),
    _transpose("groups", (2, 6, 5, 4), 9, (2, 3), stride=2, groups=3),
    _transpose(
        "depthwise",
        (1, 17, 5, 6),
        17,
        3,
        stride=2,
        padding=1,
        groups=17,
        output_padding=1,
    ),
    _transpose("depthwise_k4", (1, 17, 9, 10), 17, 4, stride=2, padding=1, groups=17),
    _transpose("depthwise_k4_even", (2, 3, 5, 20), 3, 4, stride=2, groups=3),
    _transpose("depthwise_k2", (1, 16, 5, 18), 16, 2, stride=2, groups=16),
    _transpose(
        "depthwise_k8_s4",
        (1, 18, 5, 9),
        18,
        8,
        stride=4,
        padding=2,
        groups=18,
        output_padding=1,
    ),
    _transpose("depthwise_k9_s3", (1, 16, 3, 4), 16, 9, stride=3, padding=7, groups=16),
    _transpose(
        "depthwise_3d_k4",
        (1, 16, 3, 4, 5),
        16,
        (3, 4, 2),
        stride=(1, 2, 2),
        padding=(1, 1, 0),
        groups=16,
    ),
    _transpose("depthwise_multiplier", (1, 4, 5, 6), 8, 3, groups=4),
    _transpose("one_pixel", (2, 5, 1, 1), 7, 4),
    _transpose("pointwise", (1, 17, 3, 5), 33, 1),
    _transpose("1d", (2, 3, 8), 5, 3, stride=2, padding=1, output_padding=1),
    _transpose("1d_dilated", (2, 3, 8), 5, 3, dilation=3, padding=2),
    _transpose(
        "3d",
        (1, 3, 3, 4, 2),
        4,
        (2, 3, 2),
        stride=(1, 2, 2),
        padding=(0, 1, 0),
        output_padding=(0, 1, 1),
    ),
    _transpose("3d_groups", (1, 4, 2, 3, 3), 6, 2, groups=2),
    _transpose("empty_batch", (0, 3, 5, 6), 4, 3, stride=2),
    _transpose("odd_33_to_31", (1, 33, 3, 4), 31, 3, padding=1),
]

# Windows for max, average and Lp pooling; those with dilation are max pooling's alone,
# those with padding not for Lp.
POOLS = [
    Pool("resnet_k3s2p1", (2, 8, 17, 17), 3, 2, 1),
    Pool("vgg_k2s2", (2, 16, 14, 14), 2, 2),
    Pool("inception_k3s1p1", (1, 17, 14, 14), 3, 1, 1),
    Pool("alexnet_k3s2", (1, 8, 13, 13), 3, 2),
    Pool("squeezenet_k3s2_ceil", (1, 9, 12, 12), 3, 2, ceil_mode=True),
    Pool("spp_k5s1p2", (1, 8, 10, 10), 5, 1, 2),
    Pool("spp_k13s1p6", (1, 4, 14, 14), 13, 1, 6),
    Pool("k17_289_taps", (1, 3, 19, 20), 17, 2, 8),
    Pool("densenet_k2s2", (2, 12, 7, 7), 2, 2),
    Pool("whole_plane", (2, 10, 7, 7), 7),
    Pool("global_33x1", (1, 5, 33, 1), (33, 1)),
    *(Pool(f"width_{w}_k3s1p1", (1, 3, 3, w), 3, 1, 1) for w in WIDTHS),
    *(Pool(f"width_{w}_k2s2", (1, 2, 2, 2 * w + 1), 2, 2) for w in WIDTHS[::2]),
    *(Pool(f"channels_{c}", (1, c, 5, 5), 3, 2, 1) for c in CHANNELS[::2]),
    Pool("stride_beyond_kernel", (1, 3, 14, 15), 2, (4, 5)),
    Pool("stride_beyond_kernel_ceil", (1, 3, 14, 15), 2, (4, 5), ceil_mode=True),
    Pool("kernel_beyond_input", (1, 3, 2, 3), 4, 2, 2),
    Pool("kernel_beyond_input_ceil", (1, 3, 3, 3), 4, 3, 2, ceil_mode=True),
    Pool("ceil_drops_last", (1, 3, 5, 5), 2, 2, 1, ceil_mode=True),
    Pool("ceil_beyond_padding", (1, 3, 6, 7), 3, (2, 3), 1, ceil_mode=True),
    Pool("three_rows", (2, 3, 3, 17), 3, 2, 1),  # windows cut at different ends
    Pool("uneven", (2, 3, 9, 12), (2, 4), (3, 1), (1, 2)),
    Pool("one_pixel", (2, 5, 1, 1), 1),
    Pool("one_pixel_k2p1", (2, 5, 1, 1), 2, 1, 1),
    Pool("k1s2", (1, 3, 7, 8), 1, 2),
    Pool("1d_k3s2", (2, 3, 21), 3, 2),
    Pool("1d_k3s2p1_ceil", (2, 3, 20), 3, 2, 1, ceil_mode=True),
    Pool("1d_k50", (1, 4, 101), 50, 7, 25),
    Pool("1d_k300", (1, 2, 620), 300, 9),
    Pool("3d_k2s2", (1, 4, 6, 8, 8), 2, 2),
    Pool("3d_k3s2p1", (1, 3, 5, 6, 7), 3, 2, 1),
    Pool(
        "3d_uneven_ceil",
        (2, 2, 5, 6, 7),
        (2, 3, 2),
        (1, 2, 3),
        (1, 0, 1),
        ceil_mode=True,
    ),
    Pool("large_plane_k3s2p1", (1, 2, 90, 301), 3, 2, 1),
    Pool("large_plane_k2s2", (1, 2, 130, 300), 2, 2),
    Pool("long_row_k9s1p4", (1, 2, 5000), 9, 1, 4),
    Pool("many_channels", (1, 700, 5, 6), 3, 2, 1),
    Pool("large_volume", (1, 2, 20, 30, 31), 3, 2, 1),
    Pool("3d_k7_343_taps", (1, 2, 8, 8, 9), 7, 1, 3),
    # Planes that are turned to channel order, in more than one group of them.
    Pool("turned_k3s1p1", (2, 21, 9, 11), 3, 1, 1),
    Pool("turned_k5s3", (1, 37, 17, 17), 5, 3),
    # Padding hides the first window's first tap: it begins behind the second.
    Pool("turned_dilation", (1, 17, 4, 3), (2, 3), (2, 3), (1, 0), dilation=(3, 1)),
    Pool("long_rows_s4", (1, 5, 70_001), 4, 4),
    Pool("turned_3d_k3s1p1", (1, 23, 4, 6, 7), 3, 1, 1),
    # Windows that are several vectors wide.
    Pool("wide_windows", (1, 5, 4, 300), (2, 130), (1, 80)),
    Pool("wide_windows_1d", (2, 3, 401), 100, 67),
    Pool("empty_batch", (0, 3, 6, 6), 2),
    Pool("empty_batch_1d", (0, 3, 6), 2),
    Pool("empty_batch_3d", (0, 3, 6, 6, 6), 2),
    Pool("dilation", (1, 3, 11, 12), 3, 2, 1, dilation=2),
    Pool("dilation_uneven", (2, 3, 11, 12), (3, 2), 1, (1, 0), dilation=(3, 4)),
    Pool("dilation_ceil", (1, 3, 11, 12), 3, 3, 1, dilation=2, ceil_mode=True),
    Pool("dilation_1d", (2, 3, 25), 4, 2, 2, dilation=3),
    Pool("dilation_3d", (1, 2, 7, 8, 9), 2, 2, 1, dilation=(1, 2, 3)),
    Pool("dilation_skips_border", (1, 2, 4, 4), 3, 1, 1, dilation=2),
]

# (x size, output size) of adaptive pooling; None keeps a size.
ADAPTIVE: list[tuple[tuple[int, ...], tuple[int | None, ...]]] = [
    ((2, 16, 7, 7), (1, 1)),
    ((1, 3, 13, 14), (6, 6)),
    ((1, 3, 28, 28), (6, 3)),
    ((1, 37, 20, 21), (7, 5)),
    ((1, 5, 120, 110), (11, 13)),
    ((2, 9, 3, 200), (2, 3)),
    ((1, 18, 9, 16, 15), (4, 3, 2)),
    ((1, 33, 129), (1,)),
    ((2, 5, 8, 8), (4, 2)),
    ((1, 3, 5, 4), (7, 9)),
    ((1, 3, 5, 6), (5, None)),
    ((1, 3, 17, 33), (16, 31)),
    ((0, 3, 5, 6), (2, 2)),
    ((2, 33, 1, 1), (3, 1)),
    ((2, 3, 10), (4,)),
    ((1, 3, 33), (1,)),
    ((2, 3, 4), (9,)),
    ((1, 3, 5, 6, 7), (2, 3, 4)),
    ((2, 3, 4, 4, 4), (1, 1, 1)),
    ((1, 2, 3, 4, 5), (None, 5, 2)),
]

# (x size, kernel, output size) of fractional max pooling.
FRACTIONAL: list[tuple[tuple[int, ...], Ints, tuple[int, ...]]] = [
    ((2, 3, 9, 10), 2, (5, 6)),
    ((1, 4, 13, 13), (3, 2), (7, 9)),
    ((1, 2, 8, 8), 3, (1, 1)),
    ((1, 19, 30, 40), 2, (21, 28)),
    ((1, 2, 12, 90), 2, (5, 20)),
    ((1, 2, 12, 90), (2, 40), (9, 3)),
    ((1, 2, 8, 8), 3, (1, 6)),
    ((1, 2, 7, 7), 2, (6, 6)),
    ((2, 2, 6, 7, 8), 2, (3, 4, 5)),
    ((1, 2, 6, 6, 6), (2, 3, 1), (2, 1, 5)),
]


@dataclass(frozen=True)
class Columns:
    """An unfold / fold problem."""

    name: str
    x_size: tuple[int, ...]
    kernel: Ints
    dilation: Ints = 1
    padding: Ints = 0
    stride: Ints = 1


COLUMNS = [
    Columns("plain_3x3", (2, 3, 7, 8), 3),
    Columns("same_3x3", (1, 4, 6, 7), 3, padding=1),
    Columns("patch_4x4s4", (2, 3, 8, 12), 4, stride=4),
    Columns("uneven", (1, 2, 9, 11), (2, 3), (2, 1), (1, 2), (2, 3)),
    Columns("kernel_beyond_input", (1, 2, 2, 2), 4, padding=2),
    Columns("stride_beyond_kernel", (1, 3, 9, 10), 2, stride=4),
    Columns("patch_padded", (2, 3, 9, 10), 3, padding=1, stride=3),
    Columns("apart_and_dilated", (1, 3, 10, 13), 2, dilation=2, padding=1, stride=4),
    Columns("one_pixel", (2, 3, 1, 1), 1),
    Columns("dilated", (1, 2, 9, 9), 3, 3, 2),
    Columns("wide_33", (1, 2, 3, 33), 3, padding=1),
    Columns("empty_batch", (0, 3, 5, 5), 2),
]


def one(name: str) -> Conv:
    """The convolution of this name."""
    found = [problem for problem in CONVS if problem.name == name]
    assert len(found) == 1, f"{name} is the name of {len(found)} problems"
    return found[0]
