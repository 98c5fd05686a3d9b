"""The verbs on a GPU, in Triton: two kernels for the sums, one for the label map, one for the overlap.

Dimension key: B batch, K classes, H W label resolution, h w logit resolution, S sums. Formulas as in `cpu.sums`.

A program owns a strip of gaps between logits (see `axis.Axis`), one lane a gap, of one class and image, and walks
down some rows of gaps. Forward it adds up the sums of its pixels: those of a gap in one row of pixels in float32,
these among each other in float64, always in the same order. Backward it computes the same p again, now knowing the
scalars d loss / d sums, so that the only memory is the gradient itself: a logit is complete when the gaps above and
below it have been walked, and the gaps to its left and right are neighbouring lanes. Strips overlap by one gap, so
nothing is added atomically.

Bytes: logits once (twice with backward) and the gradient, 30 MB each for 29 x 512 x 512 floats; the label map is read
once a class, 29 x 16 MB, from the L2 cache, as programs of one strip and different classes run together. Arithmetic:
about 45 (forward) and 50 (backward) float32 instructions and two of the special function unit a pixel and class:
0.2 ms an image and direction on 132 multiprocessors of 128 lanes at 1.7 GHz, which is the bound.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from carpus.kernels.axis import axis, taps

LANES = 128
ROWS = 16


@triton.jit
def _sigmoid_of(wrong):
    """sigmoid, its slope and softplus of the logit of the mistake."""
    e = tl.exp(-tl.abs(wrong))
    r = 1.0 / (1.0 + e)
    miss = tl.where(wrong >= 0, r, e * r)
    # log1p(e) / e: special functions are an eighth as many as multipliers, and 1 + e would round e away.
    tail = -0.05695951730012894 + e * (0.019851453602313995 + e * -0.0032440233044326305)
    tail = 0.1967593878507614 + e * (-0.15305592119693756 + e * (0.10603653639554977 + e * tail))
    tail = -0.4999990165233612 + e * (0.3332996368408203 + e * (-0.24954134225845337 + e * tail))
    tail = e * (1.0 + e * tail)
    return miss, e * r * r, tl.where(wrong > 0, wrong, 0 * wrong) + tail, tail - tl.where(wrong < 0, wrong, 0 * wrong)


@triton.jit
def _corners(logits, row, columns, inside, height, width):
    """The logits above and below a row of gaps, left and right of every gap, repeated at the edges."""
    above, below = tl.maximum(row - 1, 0) * width, tl.minimum(row, height - 1) * width
    left, right = tl.maximum(columns - 1, 0), tl.minimum(columns, width - 1)
    return (
        tl.load(logits + above + left, inside, 0).to(tl.float32),
        tl.load(logits + above + right, inside, 0).to(tl.float32),
        tl.load(logits + below + left, inside, 0).to(tl.float32),
        tl.load(logits + below + right, inside, 0).to(tl.float32),
    )


@triton.jit
def _truth(words, weight, row, columns, seen, k, wide, weighted: tl.constexpr):
    """Whether pixels have class k, and how much they count: 0 in unused slots."""
    word = tl.load(words + row * wide + columns, seen, 0)
    counts = seen.to(tl.float32)
    if weighted:
        counts = tl.load(weight + row * wide + columns, seen, 0).to(tl.float32)
    return ((word >> k) & 1).to(tl.float32), counts


@triton.jit
def _forward(
    logits, labels, weight, y_first, y_weight, x_first, x_weight, partial, gamma,
    classes, height, width, tall, wide, padded, strips,
    X_SLOTS: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
    WEIGHTED: tl.constexpr, FOCAL: tl.constexpr,
):  # fmt: skip
    k, strip, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    plane = (b * classes + k).to(tl.int64)
    logits += plane * height * width
    labels += b.to(tl.int64) * tall * wide
    weight += b.to(tl.int64) * tall * wide
    gaps = strip % strips * LANES + tl.arange(0, LANES)
    inside = gaps <= width
    first_x = tl.load(x_first + gaps, inside, 0)
    count_x = tl.load(x_first + gaps + 1, inside, 0) - first_x
    overlap = tl.zeros([LANES], tl.float64)
    p, true, bce, focal = overlap, overlap, overlap, overlap
    top = strip // strips * ROWS
    for i in range(top, tl.minimum(top + ROWS, height + 1)):
        a, b_, c, d = _corners(logits, i, gaps, inside, height, width)
        first_y = tl.load(y_first + i)
        count_y = tl.load(y_first + i + 1) - first_y
        for m in range(count_y):
            share = tl.load(y_weight + first_y + m)
            left, right = a + share * (c - a), b_ + share * (d - b_)
            row_overlap = tl.zeros([LANES], tl.float32)
            row_p, row_true, row_bce, row_focal = row_overlap, row_overlap, row_overlap, row_overlap
            for n in tl.static_range(X_SLOTS):  # pyright: ignore[reportGeneralTypeIssues]
                z = left + tl.load(x_weight + n * padded + gaps, inside, 0) * (right - left)
                t, counts = _truth(labels, weight, first_y + m, first_x + n, n < count_x, k, wide, WEIGHTED)
                side = 1 - 2 * t
                miss, _, loss, surprise = _sigmoid_of(side * z)
                row_overlap += counts * t * (1 - miss)
                row_p += counts * tl.where(t > 0, 1 - miss, miss)
                row_true += counts * t
                row_bce += counts * loss
                if FOCAL:
                    row_focal += counts * tl.exp(-gamma * surprise) * loss
            overlap += row_overlap.to(tl.float64)
            p += row_p.to(tl.float64)
            true += row_true.to(tl.float64)
            bce += row_bce.to(tl.float64)
            focal += row_focal.to(tl.float64)
    partial += (plane * tl.num_programs(1) + strip) * 5
    tl.store(partial, tl.sum(overlap))
    tl.store(partial + 1, tl.sum(p))
    tl.store(partial + 2, tl.sum(true))
    tl.store(partial + 3, tl.sum(bce))
    tl.store(partial + 4, tl.sum(focal))


@triton.jit
def _backward(
    logits, labels, weight, y_first, y_weight, x_first, x_weight, gradient, result, gamma,
    classes, height, width, tall, wide, padded, strips,
    X_SLOTS: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
    WEIGHTED: tl.constexpr, FOCAL: tl.constexpr,
):  # fmt: skip
    k, strip, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    plane = (b * classes + k).to(tl.int64)
    logits += plane * height * width
    result += plane * height * width
    labels += b.to(tl.int64) * tall * wide
    weight += b.to(tl.int64) * tall * wide
    of_overlap, of_p = tl.load(gradient + plane * 5), tl.load(gradient + plane * 5 + 1)
    of_bce, of_focal = tl.load(gradient + plane * 5 + 3), tl.load(gradient + plane * 5 + 4)
    lane = tl.arange(0, LANES)
    gaps = strip % strips * (LANES - 1) + lane
    inside = gaps <= width
    first_x = tl.load(x_first + gaps, inside, 0)
    count_x = tl.load(x_first + gaps + 1, inside, 0) - first_x
    top = strip // strips * ROWS
    bottom = tl.minimum(top + ROWS, height)
    waiting_left = tl.zeros([LANES], tl.float32)
    waiting_right = waiting_left
    for i in range(top, bottom + 1):
        a, b_, c, d = _corners(logits, i, gaps, inside, height, width)
        up_left, up_right = tl.zeros([LANES], tl.float32), tl.zeros([LANES], tl.float32)
        down_left, down_right = up_left, up_right
        first_y = tl.load(y_first + i)
        count_y = tl.load(y_first + i + 1) - first_y
        for m in range(count_y):
            share = tl.load(y_weight + first_y + m)
            left, right = a + share * (c - a), b_ + share * (d - b_)
            row_left, row_right = tl.zeros([LANES], tl.float32), tl.zeros([LANES], tl.float32)
            for n in tl.static_range(X_SLOTS):  # pyright: ignore[reportGeneralTypeIssues]
                after = tl.load(x_weight + n * padded + gaps, inside, 0)
                z = left + after * (right - left)
                t, counts = _truth(labels, weight, first_y + m, first_x + n, n < count_x, k, wide, WEIGHTED)
                side = 1 - 2 * t
                miss, slope, loss, surprise = _sigmoid_of(side * z)
                pull = of_bce * side * miss + (of_p + of_overlap * t) * slope
                if FOCAL:
                    power = tl.exp(-gamma * surprise)
                    pull += of_focal * side * power * (gamma * (1 - miss) * loss + miss)
                pull *= counts
                row_left += (1 - after) * pull
                row_right += after * pull
            up_left += (1 - share) * row_left
            up_right += (1 - share) * row_right
            down_left += share * row_left
            down_right += share * row_right
        # The first gap has no logit above it and the last none below: both ends are the same logit.
        down_left += tl.where(i == 0, up_left, 0)
        down_right += tl.where(i == 0, up_right, 0)
        waiting_left += up_left + tl.where(i == height, down_left, 0)
        waiting_right += up_right + tl.where(i == height, down_right, 0)
        if i > top:
            of_right = waiting_right + tl.where(gaps == 0, waiting_left, 0)
            of_left = waiting_left + tl.where(gaps == width, waiting_right, 0)
            complete = of_right + tl.gather(of_left, tl.minimum(lane + 1, LANES - 1), 0)
            owned = (lane < LANES - 1) & (gaps < width)
            tl.store(result + (i - 1) * width + gaps, complete.to(result.dtype.element_ty), owned)
        waiting_left, waiting_right = down_left, down_right


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, gamma: float | None, weight: Tensor | None) -> Tensor:
        batch, classes, height, width = logits.shape
        x, words = logits.detach().contiguous(), labels.contiguous()
        rows, columns = _tables(height, labels.shape[1], x.device), _tables(width, labels.shape[2], x.device)
        strips = triton.cdiv(width + 1, LANES)
        chunks = triton.cdiv(height + 1, ROWS)
        partial = torch.empty(batch, classes, strips * chunks, 5, dtype=torch.float64, device=x.device)
        ctx.arguments = (gamma, rows, columns)
        ctx.save_for_backward(x, words, weight)
        grid = (classes, strips * chunks, batch)
        _launch(_forward, grid, (x, words, weight), ctx.arguments, (partial,), strips)
        return partial.sum(2)[..., : 4 if gamma is None else 5]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore
        x = ctx.saved_tensors[0]
        batch, classes, height, width = x.shape
        scalars = torch.zeros(batch, classes, 5, dtype=torch.float32, device=x.device)
        scalars[..., : gradient.shape[2]] = gradient
        result = torch.empty_like(x)
        strips, chunks = triton.cdiv(width, LANES - 1), triton.cdiv(height, ROWS)
        grid = (classes, strips * chunks, batch)
        _launch(_backward, grid, ctx.saved_tensors, ctx.arguments, (scalars, result), strips)
        return result, None, None, None


def sums(logits: Tensor, labels: Tensor, gamma: float | None, weight: Tensor | None) -> Tensor:
    """`kernels.sums` for GPU tensors: float64 (B, K, 4), with `gamma` (B, K, 5); arithmetic in float32."""
    return _Sums.apply(logits, labels, gamma, weight)  # pyright: ignore[reportReturnType]


def _tables(narrow: int, wide: int, device: torch.device) -> dict[str, Tensor]:
    """An `Axis` as tensors: first pixels of the gaps, weights by slot and by pixel."""
    found = axis(narrow, wide, "float32")
    parts = {"first": found.first, "weight": found.weight, "position": found.position}
    return {
        name: torch.from_numpy(part).to(device, torch.float32 if part.dtype.kind == "f" else torch.int32)
        for name, part in parts.items()
    }


def _launch(kernel: Any, grid: tuple[int, ...], tensors: Sequence[Any], arguments: Any, out: Any, strips: int) -> None:
    (x, words, weight), (gamma, rows, columns) = tensors, arguments
    kernel[grid](
        x, words, words if weight is None else weight.contiguous(),
        rows["first"], rows["position"], columns["first"], columns["weight"], *out,
        0.0 if gamma is None else gamma,
        x.shape[1], *x.shape[2:], *words.shape[1:], columns["weight"].shape[1], strips,
        X_SLOTS=len(columns["weight"]), ROWS=ROWS, LANES=LANES,
        WEIGHTED=weight is not None, FOCAL=gamma is not None, enable_fp_fusion=True,
    )  # fmt: skip


@triton.jit
def _threshold(
    logits, cuts, y_first, y_below, y_after, x_first, x_second, x_after, result,
    classes, height, width, tall, wide, Y_SLOTS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    i, tile, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    logits += b.to(tl.int64) * classes * height * width
    result += b.to(tl.int64) * tall * wide
    x = tile * LANES + tl.arange(0, LANES)
    left, right = tl.load(x_first + x, x < wide, 0), tl.load(x_second + x, x < wide, 0)
    after = tl.load(x_after + x, x < wide, 0)
    y = tl.load(y_first + i) + tl.arange(0, Y_SLOTS)
    within = y < tl.load(y_first + i + 1)
    share = tl.load(y_after + y, within, 0)[:, None]
    above, below = i * width, tl.load(y_below + i) * width
    words = tl.zeros([Y_SLOTS, LANES], tl.int32)
    for k in range(classes):
        a, b_ = tl.load(logits + above + left).to(tl.float32), tl.load(logits + above + right).to(tl.float32)
        c, d = tl.load(logits + below + left).to(tl.float32), tl.load(logits + below + right).to(tl.float32)
        upper, lower = (1 - after) * a + after * b_, (1 - after) * c + after * d
        cut = tl.load(cuts + k)
        # A pixel is between its logits: where none is near the cut, no row needs to be looked at. NaN is not near.
        floor = cut - 1e-6 * tl.abs(cut)
        if tl.max(tl.where((upper > floor) | (lower > floor), 1, 0)) == 1:
            z = (1 - share) * upper[None, :] + share * lower[None, :]
            words |= tl.where(z > cut, 1, 0) << k
        logits += height * width
    tl.store(result + y[:, None] * wide + x[None, :], words, within[:, None] & (x < wide)[None, :])


def threshold(logits: Tensor, thresholds: Tensor, size: tuple[int, int]) -> Tensor:
    """`kernels.threshold` for GPU tensors; pixels whose logit is the threshold but for rounding may differ."""
    x = logits.detach().contiguous()
    height, width = x.shape[2:]
    y_above, y_below, _, y_after = taps(height, size[0]).table
    x_first, x_second, _, x_after = taps(width, size[1]).table
    # A program does the rows of pixels that have logit row i above them.
    y_first = np.searchsorted(y_above, np.arange(height + 1)).astype(np.int32)
    y_below = y_below[np.minimum(y_first[:-1], size[0] - 1)]
    tables = [torch.from_numpy(x).to(logits.device) for x in (y_first, y_below, y_after, x_first, x_second, x_after)]
    cuts = torch.logit(thresholds.detach().double()).to(x.device, torch.float32)
    result = torch.empty(len(x), *size, dtype=torch.int32, device=x.device)
    kernel: Any = _threshold[(height, triton.cdiv(size[1], LANES), len(x))]
    kernel(
        x, cuts, *tables, result, *x.shape[1:], *size,
        Y_SLOTS=triton.next_power_of_2(int(np.diff(y_first).max())), LANES=LANES, enable_fp_fusion=True,
    )  # fmt: skip
    return result


@triton.jit
def _overlap(a, b, partial, pixels, classes, BLOCK: tl.constexpr):
    program = tl.program_id(0).to(tl.int64)
    at = program * BLOCK + tl.arange(0, BLOCK)
    in_a, in_b = tl.load(a + at, at < pixels, 0), tl.load(b + at, at < pixels, 0)
    for k in range(classes):
        of_a, of_b = (in_a >> k) & 1, (in_b >> k) & 1
        cell = partial + (program * classes + k) * 3
        tl.store(cell, tl.sum(of_a & of_b))
        tl.store(cell + 1, tl.sum(of_a))
        tl.store(cell + 2, tl.sum(of_b))


def overlap(a: Tensor, b: Tensor, classes: int) -> NDArray[np.int64]:
    """`kernels.overlap` for two (H, W) int32 tensors on a GPU."""
    block = 4096
    programs = triton.cdiv(a.numel(), block)
    partial = torch.empty(programs, classes, 3, dtype=torch.int32, device=a.device)
    kernel: Any = _overlap[(programs,)]
    kernel(a.contiguous(), b.contiguous(), partial, a.numel(), classes, BLOCK=block)
    return partial.sum(0, dtype=torch.int64).cpu().numpy()
