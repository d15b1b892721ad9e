"""What low-rank adapters add to a linear map's output, with its backward pass written out.

    result = output + factor (mask x) A^T B^T
By autograd every adapted module would keep its own dropped input and mask; here modules that read the same input share
them, and the products are joined with their sums.

Shapes: K adapters, L positions, R rank.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable


@dataclass(frozen=True, slots=True)
class Dropped:
    """An input after dropout, (K, L, n_in) without gradient, and the mask of zeros and ones; None where all is kept."""

    x: torch.Tensor
    mask: torch.Tensor | None


def add_low_rank_change(
    output: torch.Tensor, x: torch.Tensor, dropped: Dropped, a: torch.Tensor, b: torch.Tensor, factor: torch.Tensor
) -> torch.Tensor:
    """The output (K, L, n_out) plus the change of x (K, L, n_in); a (K, R, n_in), b (K, n_out, R), factor (K, 1, 1)."""
    return _LowRankChange.apply(output, x, dropped.x, dropped.mask, a, b, factor)  # type: ignore[no-untyped-call]


class _LowRankChange(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        output: torch.Tensor,
        x: torch.Tensor,
        dropped: torch.Tensor,
        mask: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        factor: torch.Tensor,
    ) -> torch.Tensor:
        reduced = (dropped @ a.transpose(1, 2)) * factor
        ctx.save_for_backward(dropped, mask, a, b, factor, reduced)
        return torch.baddbmm(output, reduced, b.transpose(1, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dropped, mask, a, b, factor, reduced = ctx.saved_tensors
        of_reduced = (gradient @ b) * factor
        of_a = of_reduced.transpose(1, 2) @ dropped
        # the other way round is slower in bfloat16; contiguous, as a restored gradient is, so that norms sum alike
        of_b = (reduced.transpose(1, 2) @ gradient).transpose(1, 2).contiguous()
        of_x = None
        if ctx.needs_input_grad[1]:
            of_x = of_reduced @ a
            of_x = of_x if mask is None else of_x.mul_(mask)
        return gradient, of_x, None, None, of_a, of_b, None
