"""What the layers of a model mean: connections, work, memory traffic, receptive fields.

analysis = torchconv.analyze(model, torch.randn(1, 3, 224, 224))
analysis.picture("receptive_field.png", image)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ._conv_args import canonical_pads
from .nn._tiled_base import TiledBase
from .nn.layer import _Stages
from .nn.maxout import Maxout
from .nn.pooling_extra import GlobalPool, _BlurPool, _LearnedLPPool, _MaxBlurPool, _Pool

__all__ = ["Analysis", "LayerAnalysis", "ReceptiveField", "analyze"]

_Conv = torch.nn.modules.conv._ConvNd
_Transposed = torch.nn.modules.conv._ConvTransposeNd
_pooling = torch.nn.modules.pooling
_WINDOWED: tuple[type[Module], ...] = (
    _pooling._MaxPoolNd,
    _pooling._AvgPoolNd,
    _pooling._LPPoolNd,
    _Pool,
    _LearnedLPPool,
)
_ADAPTIVE: tuple[type[Module], ...] = (
    _pooling._AdaptiveMaxPoolNd,
    _pooling._AdaptiveAvgPoolNd,
)


@dataclass(frozen=True)
class ReceptiveField:
    """What one output sees of the model's input, along each spatial dimension.

    Output o sees the inputs from offset + o * stride on, size of them; those below 0 or
    beyond the input are padding. Neighbouring outputs are stride inputs apart. Behind a
    transposed convolution outputs see different numbers of positions in turn: size is then
    the largest, and offset right within one step of that layer's input.
    """

    size: tuple[int, ...]
    stride: tuple[Fraction, ...]
    offset: tuple[Fraction, ...]

    def interval(self, d: int, position: int) -> tuple[float, float]:
        """(first input, behind the last input) that the output at a position sees."""
        first = float(self.offset[d] + position * self.stride[d])
        return first, first + self.size[d]

    def __str__(self) -> str:
        def text(values: Sequence[Any]) -> str:
            shown = [str(v) for v in values]
            return shown[0] if len(set(shown)) == 1 else "x".join(shown)

        return f"{text(self.size)} every {text(self.stride)} from {text(self.offset)}"


@dataclass(frozen=True)
class LayerAnalysis:
    """One layer, for one sample (connections) and for the whole batch (flops, bytes).

    With m outputs and n inputs, of which each output sees k: dense = m * n weights would
    connect everything, sparse = m * k only what is seen, and shared are those that the
    layer has (Goodfellow, Bengio, Courville, *Deep Learning*, section 9.2). They are 0 for
    layers without weights of this kind.
    """

    name: str
    kind: str
    output_size: tuple[int, ...]
    parameters: int
    dense: int
    sparse: int
    shared: int
    flops: int
    bytes: int
    field: ReceptiveField | None
    """None where an output sees everything, or where nothing is known of the input."""

    @property
    def intensity(self) -> float:
        """Floating-point operations for each byte of input, output and parameters."""
        return self.flops / self.bytes if self.bytes else 0.0


@dataclass(frozen=True)
class Analysis:
    """The layers of a model in the order they ran; str() is a table."""

    layers: tuple[LayerAnalysis, ...]
    input_size: tuple[int, ...]

    HEADER = (
        "layer",
        "kind",
        "output",
        "parameters",
        "dense m*n",
        "sparse m*k",
        "shared",
        "FLOPs",
        "bytes",
        "FLOP/B",
        "receptive field",
    )

    def rows(self) -> Iterator[tuple[str, ...]]:
        """A line of text for each layer, and one of sums."""
        for x in self.layers:
            yield (
                x.name,
                x.kind,
                "x".join(map(str, x.output_size)),
                f"{x.parameters:,}",
                *(_short(v) if v else "" for v in (x.dense, x.sparse, x.shared)),
                _short(x.flops),
                _short(x.bytes),
                f"{x.intensity:.2f}",
                "" if x.field is None else str(x.field),
            )
        total = [sum(getattr(x, key) for x in self.layers) for key in _SUMS]
        parameters, *connections, flops, moved = total
        yield (
            "total",
            "",
            "",
            f"{parameters:,}",
            *map(_short, connections),
            _short(flops),
            _short(moved),
            f"{flops / moved if moved else 0:.2f}",
            "",
        )

    def table(self) -> Any:
        """A rich.table.Table.

        Raises:
            ModuleNotFoundError: rich is not installed.
        """
        from rich.table import Table

        table = Table(title="Layers", title_justify="left")
        for title in self.HEADER:
            left = title in ("layer", "kind", "receptive field")
            table.add_column(title, justify="left" if left else "right")
        *rows, total = self.rows()
        for row in rows:
            table.add_row(*row)
        table.add_section()
        table.add_row(*total)
        return table

    def __str__(self) -> str:
        rows = [self.HEADER, *self.rows()]
        widths = [max(map(len, column)) for column in zip(*rows)]
        return "\n".join(
            "  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip()
            for row in rows
        )

    def picture(self, path: Any = None, image: Tensor | None = None) -> Any:
        """Draws the receptive field of the middle output of each layer on an image.

        Args:
            path: where to write a PNG; None for nowhere.
            image: (C, H, W) of the input's height and width, 1 or 3 channels from 0 to 1;
                None draws on grey.

        Returns:
            The matplotlib figure.

        Raises:
            ValueError: the model's input has not two spatial dimensions.
            ModuleNotFoundError: matplotlib is not installed.
        """
        import matplotlib.pyplot as plt
        from matplotlib.patches import Rectangle

        if len(self.input_size) != 4:
            raise ValueError(
                "picture() draws inputs of size (N, C, H, W), but the model's was "
                f"{self.input_size}"
            )
        height, width = self.input_size[2:]
        shown = torch.full((1, height, width), 0.8) if image is None else image
        pixels = shown.detach().cpu().permute(1, 2, 0).squeeze(-1).numpy()
        figure, axes = plt.subplots(figsize=(6, 6 * height / width), layout="tight")
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1)
        fields: dict[tuple[int, ...], LayerAnalysis] = {}
        for x in self.layers:
            if x.field is not None and len(x.output_size) == 4:
                fields.setdefault(x.field.size, x)  # the first layer of this size
        colours = plt.get_cmap("plasma")
        for i, x in enumerate(fields.values()):
            assert x.field is not None
            sides = [
                x.field.interval(d, (x.output_size[2 + d] - 1) // 2) for d in (0, 1)
            ]
            (top, bottom), (left, right) = sides
            colour = colours(0.9 * i / max(len(fields) - 1, 1))
            corner = (left - 0.5, top - 0.5)
            size = (right - left, bottom - top)
            axes.add_patch(
                Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=2)
            )
            label = f"{x.name} ({x.field.size[0]} x {x.field.size[1]})"
            axes.plot([], [], color=colour, label=label)
        if fields:
            axes.legend(loc="upper left", fontsize=8, framealpha=0.85)
        axes.set_xlim(-0.5, width - 0.5)
        axes.set_ylim(height - 0.5, -0.5)
        axes.set_axis_off()
        if path is not None:
            figure.savefig(path, dpi=100)
        return figure


_SUMS = ("parameters", "dense", "sparse", "shared", "flops", "bytes")


def _short(number: float) -> str:
    """123456 as 123k."""
    for unit in ("", "k", "M", "G", "T", "P"):
        if number < 999.5 or unit == "P":
            break
        number /= 1000
    return (
        f"{number:.0f}{unit}" if not unit or number >= 99.5 else f"{number:.3g}{unit}"
    )


def _each(value: Any, nd: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, Sequence) else (value,) * nd
    return values * nd if len(values) == 1 else values


def _windows(module: Module, nd: int) -> list[tuple[Any, ...]] | None:
    """(kernel, stride, low padding, dilation) per dimension, of each stage of a layer; an
    empty list for a layer that keeps positions, None for one that is not local."""
    if isinstance(module, (_Conv, TiledBase)):
        kernel, stride = _each(module.kernel_size, nd), _each(module.stride, nd)
        dilation = _each(module.dilation, nd)
        pads = canonical_pads("analyze", module.padding, nd, kernel, stride, dilation)
        stages = [(kernel, stride, pads[::2], dilation)]
        if isinstance(module, _Stages) and module.pool is not None:
            size = _each(module.pool_size, nd)
            steps = module.pool_stride
            moves = size if steps is None else _each(steps, nd)
            stages.append((size, moves, (0,) * nd, (1,) * nd))
        return stages
    if isinstance(module, _MaxBlurPool):
        size = _each(module.kernel_size, nd)
        ones = (1,) * nd
        return [(size, ones, (0,) * nd, ones), *_blur(module, nd)]
    if isinstance(module, _BlurPool):
        return _blur(module, nd)
    if isinstance(module, _WINDOWED):
        found: Any = module
        return [
            (
                _each(found.kernel_size, nd),
                _each(found.kernel_size if found.stride is None else found.stride, nd),
                _each(getattr(found, "padding", 0), nd),
                _each(getattr(found, "dilation", 1), nd),
            )
        ]
    if isinstance(module, (*_ADAPTIVE, GlobalPool, torch.nn.Linear, torch.nn.Flatten)):
        return None
    return []


def _blur(module: _BlurPool, nd: int) -> list[tuple[Any, ...]]:
    size = (module.filter_size,) * nd
    low = ((module.filter_size - 1) // 2,) * nd
    return [(size, _each(module.stride, nd), low, (1,) * nd)]


def _field(module: Module, before: ReceptiveField | None, nd: int) -> Any:
    """The receptive field behind a layer (Araujo, Norris, Sim, "Computing receptive fields
    of convolutional neural networks", Distill 2019, equations 1 to 6)."""
    stages = _windows(module, nd)
    if before is None or stages is None or len(before.size) != nd:
        return None
    size, step, first = before.size, before.stride, before.offset
    for kernel, stride, low, dilation in stages:
        reach = [d * (k - 1) for k, d in zip(kernel, dilation)]
        if isinstance(module, _Transposed):
            # Output o sees the inputs i with 0 <= o + low - i * stride <= reach.
            size = tuple(
                int(n + (r // s) * j) for n, r, s, j in zip(size, reach, stride, step)
            )
            first = tuple(
                f - Fraction(r - p, s) * j
                for f, r, p, s, j in zip(first, reach, low, stride, step)
            )
            step = tuple(j / s for j, s in zip(step, stride))
        else:
            size = tuple(int(n + r * j) for n, r, j in zip(size, reach, step))
            first = tuple(f - p * j for f, p, j in zip(first, low, step))
            step = tuple(j * s for j, s in zip(step, stride))
    return ReceptiveField(size, step, first)


def _work(module: Module, x: Tensor, y: Tensor) -> tuple[int, int, int, int]:
    """(dense, sparse, shared, flops)."""
    batch = max(x.shape[0], 1)
    m, n = y.numel() // batch, x.numel() // batch
    if isinstance(module, torch.nn.Linear):
        k = module.in_features
        return m * n, m * k, module.weight.numel(), 2 * y.numel() * k
    if isinstance(module, _Transposed):
        k = module.weight.numel() // module.in_channels  # outputs of one input
        return m * n, n * k, module.weight.numel(), 2 * x.numel() * k
    if isinstance(module, (_Conv, TiledBase)):
        nd = len(module.kernel_size)
        k = module.in_channels // module.groups * math.prod(module.kernel_size)
        # Of the convolution stage, whose outputs a later stage may have pooled.
        (kernel, stride, _, dilation), *_ = _windows(module, nd) or []
        pads = canonical_pads("analyze", module.padding, nd, kernel, stride, dilation)
        out = [
            (size + pads[2 * d] + pads[2 * d + 1] - r * (q - 1) - 1) // s + 1
            for d, (size, q, s, r) in enumerate(
                zip(x.shape[-nd:], kernel, stride, dilation)
            )
        ]
        m = module.out_channels * math.prod(out)
        weights = k * module.out_channels
        if isinstance(module, TiledBase):
            weights = module.weight.numel()
        return m * n, m * k, weights, 2 * batch * m * k
    nd = max(y.dim() - 2, 1)
    stages = _windows(module, nd)
    if stages:
        return 0, 0, 0, y.numel() * sum(math.prod(stage[0]) for stage in stages)
    if stages is None or isinstance(module, Maxout):
        return 0, 0, 0, 0 if isinstance(module, torch.nn.Flatten) else x.numel()
    return 0, 0, 0, y.numel()


@torch.no_grad()
def analyze(model: Module, input: Tensor, *, show: bool = True) -> Analysis:
    """Runs a model once and says of each of its layers what it costs and what it sees.

    For each layer without layers inside: output size, parameters, connections (dense m*n,
    sparse m*k, shared), FLOPs (a multiply-add counts two), bytes (input, output and
    parameters once each), arithmetic intensity, and the receptive field, which grows with
    depth.

    The receptive field is followed from layer to layer by the tensors that they pass on.
    Where a tensor comes from something that is no layer (a sum of branches, a function),
    that of the layer which ran last is taken.

    Args:
        model: any module, run in evaluation mode.
        input: (N, C, *spatial).
        show: prints the table, with rich if that is installed.

    Raises:
        TypeError: model is no module or input no tensor.
    """
    if not isinstance(model, Module) or not isinstance(input, Tensor):
        raise TypeError(
            "analyze() takes a torch.nn.Module and a Tensor, but got "
            f"{type(model).__name__} and {type(input).__name__}"
        )
    nd = max(input.dim() - 2, 0)
    start = ReceptiveField((1,) * nd, (Fraction(1),) * nd, (Fraction(0),) * nd)
    # Tensors are kept, so that no other gets their identity.
    known: dict[int, tuple[Tensor, ReceptiveField | None]] = {id(input): (input, start)}
    last: list[ReceptiveField | None] = [start]
    layers: list[LayerAnalysis] = []
    names = {module: name for name, module in model.named_modules()}

    def hook(module: Module, inputs: Any, output: Any) -> None:
        x = next((t for t in inputs if isinstance(t, Tensor)), None)
        y = output[0] if isinstance(output, (tuple, list)) else output
        if x is None or not isinstance(y, Tensor):
            return
        before = known[id(x)][1] if id(x) in known else last[0]
        field = _field(module, before, nd)
        if _windows(module, nd) == [] and x.shape[2:] != y.shape[2:]:
            field = None  # it moves positions, in a way not known here
        known[id(y)], last[0] = (y, field), field
        dense, sparse, shared, flops = _work(module, x, y)
        parameters = list(module.parameters(recurse=False))
        moved = sum(t.numel() * t.element_size() for t in (x, y, *parameters))
        layers.append(
            LayerAnalysis(
                name=names[module] or "(the model)",
                kind=type(module).__name__,
                output_size=tuple(y.shape),
                parameters=sum(p.numel() for p in parameters),
                dense=dense,
                sparse=sparse,
                shared=shared,
                flops=flops,
                bytes=moved,
                field=field,
            )
        )

    leaves = [m for m in names if not any(True for _ in m.children())]
    handles = [module.register_forward_hook(hook) for module in leaves]
    modes = {module: module.training for module in names}
    try:
        model.eval()
        model(input)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    analysis = Analysis(tuple(layers), tuple(input.shape))
    if show:
        _show(analysis)
    return analysis


def _show(analysis: Analysis) -> None:
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        print(analysis)
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(analysis.table())
