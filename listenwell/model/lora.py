"""Low-rank adapters, stacked: one frozen base, K adapters, row k of the batch through adapter k.

LoRA (Hu et al. 2021, arXiv:2106.09685) adds to a frozen linear map y = W x the change
    (alpha / rank) B A dropout(x),    A (rank, n_in), B (n_out, rank), B = 0 at the start.
In a stack, x is (K, L, n_in): the base multiplies all rows at once, the change is a batched product
    (K, L, n_in) @ (K, n_in, R) @ (K, R, n_out),
R being the largest rank (smaller ones are filled with zeros, which change nothing). K = 1 is the ordinary case.
The change is added by forward hooks, so the network's own modules and names stay as they are. Its backward pass is
written out: by autograd every adapted module would keep its own dropped input and mask; here modules that read the same
input share them, and the products are joined with their sums.

Shapes: K adapters, L positions, R rank.
"""

import copy
import functools
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from listenwell.errors import ModelError
from listenwell.model.settings import LoraConfig
from listenwell.random_streams import stream, stream_key

A, B = ".lora_A.weight", ".lora_B.weight"
"""What PEFT's names of a module's two factors end with."""
SAME_INPUT = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}
"""Modules that read the same input as another one of their layer, which comes first."""


@dataclass(slots=True)
class LoraPair:
    """The two factors of one module's change: a (rank, n_in), b (n_out, rank), float32."""

    a: torch.Tensor
    b: torch.Tensor


@dataclass(slots=True)
class ProjectorWeights:
    """An adapter's own projector, in place of the base's: weight (D, W), bias (D,), float32.

    name: full name of the base's linear module.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    name: str


@dataclass(slots=True)
class Adapter:
    """One adapter: its scale alpha / rank, a pair of factors for each adapted module by full name, and its own
    projector where that is trained too (None: the base's).

    dropout acts while dropout_key is set, in training only: masks are drawn from the stream (seed, "dropout", batch,
    module), (seed, batch) being the key. So a batch run again, to save memory or after a restart, meets the same masks.
    Modules that read the same input share the first one's mask. On a GPU torch's generator draws them there, from the
    same keys: other masks than on a CPU, but 3 ms of drawing and copying less for every mask of a 7 B.
    """

    scale: float
    pairs: dict[str, LoraPair]
    projector: ProjectorWeights | None = None
    dropout: float = 0.0
    dropout_key: tuple[int, int] | None = None

    @property
    def dropped_share(self) -> float:
        """The share of inputs dropped now; rounded to 1/256, since a byte is drawn four times as fast as a float."""
        return 0.0 if self.dropout_key is None else round(self.dropout * 256) / 256

    def factors(self) -> list[torch.Tensor]:
        """Every LoRA factor, in the order of the module names."""
        return [factor for name in sorted(self.pairs) for factor in (self.pairs[name].a, self.pairs[name].b)]

    def tensors(self) -> dict[str, torch.Tensor]:
        """Every trained tensor, by PEFT's name without its prefix."""
        tensors = {}
        for name, pair in self.pairs.items():
            tensors[name + A], tensors[name + B] = pair.a, pair.b
        if self.projector is not None:
            tensors |= {
                f"{self.projector.name}.weight": self.projector.weight,
                f"{self.projector.name}.bias": self.projector.bias,
            }
        return tensors

    def frozen_copy(self) -> "Adapter":
        """The adapter as it is now, without dropout and gradients."""
        frozen = copy.deepcopy(self)
        frozen.dropout_key = None
        for tensor in frozen.tensors().values():
            tensor.requires_grad_(False).grad = None
        return frozen


def new_adapter(config: LoraConfig, network: torch.nn.Module, targets: Sequence[str], seed: int) -> Adapter:
    """Return a trainable adapter on the modules `targets`: A uniform in +-1/sqrt(n_in) as in PEFT, B zero.

    Each module draws from a stream of its own name: the same seed gives the same A whatever else is adapted.
    """
    modules = dict(network.named_modules())
    pairs = {}
    for name in targets:
        module = modules[name]
        bound = 1 / math.sqrt(module.in_features)
        draw = stream(seed, "lora", name).uniform(-bound, bound, (config.rank, module.in_features))
        device = module.weight.device
        pairs[name] = LoraPair(
            torch.tensor(draw, dtype=torch.float32, device=device).requires_grad_(),
            torch.zeros(module.out_features, config.rank, device=device).requires_grad_(),
        )
    return Adapter(config.alpha / config.rank, pairs, dropout=config.dropout)


class AdapterSlots:
    """Every linear module of a network, ready to take adapters; each thread attaches its own.

    One forward hook per module looks up what the calling thread has attached, so several threads can score with
    different adapters over the same frozen network.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self._attached = threading.local()
        for name, module in network.named_modules():
            if isinstance(module, torch.nn.Linear):
                module.register_forward_hook(functools.partial(self._add_change, name))

    @contextmanager
    def attached(self, adapters: Sequence[Adapter], row_lengths: Sequence[int] | None = None) -> Iterator[None]:
        """Within the block, row k of every adapted module's input goes through adapters[k], in this thread alone.

        One adapter takes all rows. row_lengths: valid positions of each row, the rest being fill; dropout is drawn
        for the valid ones alone, so a row's masks do not depend on how long its neighbours are. None: all count.
        """
        before = getattr(self._attached, "now", None)
        self._attached.now = _Attached(adapters, row_lengths)
        try:
            yield
        finally:
            self._attached.now = before

    def _add_change(
        self, name: str, module: torch.nn.Linear, inputs: tuple[torch.Tensor], output: torch.Tensor
    ) -> torch.Tensor | None:
        """The forward hook of module `name`: None leaves its output as it is."""
        attached: _Attached | None = getattr(self._attached, "now", None)
        if attached is None or not any(name in adapter.pairs for adapter in attached.adapters):
            return None
        return attached.change(name, module, inputs[0], output)


class _Attached:
    """Adapters in place, and the last input that was dropped, which the next module may read too."""

    def __init__(self, adapters: Sequence[Adapter], row_lengths: Sequence[int] | None) -> None:
        self.adapters, self.row_lengths = adapters, row_lengths
        self._factors = [adapter.scale / (1 - adapter.dropped_share) for adapter in adapters]
        self._factor: torch.Tensor | None = None
        self._last: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None] | None = None

    def change(self, name: str, module: torch.nn.Linear, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """The output (rows, L, n_out) = module(x) plus what the rows' adapters add to it; x (rows, L, n_in)."""
        shape = output.shape
        pairs = [adapter.pairs.get(name) for adapter in self.adapters]
        rank = max(pair.a.shape[0] for pair in pairs if pair is not None)
        all_a, all_b = zip(*(_of_rank(rank, pair, module) for pair in pairs), strict=True)
        a, b = torch.stack(all_a).to(x.dtype), torch.stack(all_b).to(x.dtype)
        factor = self._factor_like(x)
        dropped, mask = self._dropped(name, x)
        if len(self.adapters) == 1:
            # one adapter takes all rows: they are one long row
            x, output = x.reshape(1, -1, x.shape[2]), output.reshape(1, -1, output.shape[2])
        changed: torch.Tensor = _LowRankChange.apply(  # type: ignore[no-untyped-call]
            output, x, dropped, mask, a, b, factor
        )
        return changed.view(shape)

    def _factor_like(self, x: torch.Tensor) -> torch.Tensor:
        """Alpha / rank of each adapter, over the share that dropout keeps: (K, 1, 1), copied to the device once."""
        if self._factor is None or self._factor.dtype != x.dtype or self._factor.device != x.device:
            self._factor = torch.tensor(self._factors, dtype=x.dtype, device=x.device)[:, None, None]
        return self._factor

    def _dropped(self, name: str, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The input x (rows, L, n_in) after dropout, without gradient, and its mask of zeros and ones, None where all
        is kept; both as one long row where one adapter takes all."""
        if self._last is None or self._last[0] is not x:
            dropped, mask = x.detach() if len(self.adapters) > 1 else x.detach().reshape(1, -1, x.shape[2]), None
            if any(adapter.dropped_share for adapter in self.adapters):
                parent, _, leaf = name.rpartition(".")
                first = f"{parent}.{SAME_INPUT.get(leaf, leaf)}"
                mask = keep_mask(first, x, self.adapters, self.row_lengths).view(dropped.shape)
                dropped = dropped * mask
            self._last = (x, dropped, mask)
        return self._last[1:]


class _LowRankChange(torch.autograd.Function):
    """output + factor (mask x) A^T B^T; output (K, L, n_out), x (K, L, n_in), a (K, R, n_in), b (K, n_out, R), factor
    (K, 1, 1)."""

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


def _of_rank(rank: int, pair: LoraPair | None, module: torch.nn.Linear) -> tuple[torch.Tensor, torch.Tensor]:
    """The factors filled with zeros to this rank; all zeros where the module has none."""
    if pair is None:
        a = torch.zeros(rank, module.in_features, device=module.weight.device)
        b = torch.zeros(module.out_features, rank, device=module.weight.device)
        return a, b
    if not (n_missing := rank - pair.a.shape[0]):
        return pair.a, pair.b
    return torch.nn.functional.pad(pair.a, (0, 0, 0, n_missing)), torch.nn.functional.pad(pair.b, (0, n_missing))


def keep_mask(
    name: str,
    x: torch.Tensor,
    adapters: Sequence[Adapter],
    row_lengths: Sequence[int] | None,
    on_cpu: bool | None = None,
) -> torch.Tensor:
    """Of x's shape (rows, L, n_in) and precision: 0 where an input is dropped, otherwise 1, each row by its adapter's
    own stream. Padding positions keep their inputs. on_cpu: whether x lies there, and numpy draws."""
    on_cpu = x.device.type == "cpu" if on_cpu is None else on_cpu
    keep = torch.ones_like(x)
    lengths = row_lengths or [x.shape[1]] * x.shape[0]
    for k, adapter in enumerate(adapters):
        if adapter.dropout_key is None or not adapter.dropped_share:
            continue
        rows = range(x.shape[0]) if len(adapters) == 1 else [k]
        n_valid = [lengths[row] for row in rows]
        shape, n_dropped = (sum(n_valid), x.shape[2]), round(adapter.dropout * 256)
        kept = _draw(adapter.dropout_key, name, shape, None if on_cpu else x.device) >= n_dropped
        for row, length, values in zip(rows, n_valid, torch.split(kept, n_valid), strict=True):
            keep[row, :length] = values
    return keep


def _draw(key: tuple[int, int], name: str, shape: tuple[int, int], device: torch.device | None) -> torch.Tensor:
    """Random bytes of this shape, by numpy on the CPU, or drawn on `device`."""
    seed, batch = key
    if device is None:
        drawn = stream(seed, "dropout", batch, name).bytes(shape[0] * shape[1])
        return torch.from_numpy(np.frombuffer(drawn, dtype=np.uint8).copy()).view(shape)
    generator = torch.Generator(device)
    generator.manual_seed(stream_key(seed, "dropout", batch, name) % 2**63)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8, device=device)


def merge_adapter(network: torch.nn.Module, adapter: Adapter) -> None:
    """Add the adapter's change to the network's own weights, in place: W + scale B A, and its projector, if any.

    Computed in float64 so that it rounds the same on any machine. Raises ModelError for packed weights.
    """
    modules = dict(network.named_modules())
    packed = [name for name in adapter.pairs if not modules[name].get_parameter("weight").is_floating_point()]
    if packed:
        raise ModelError(
            f"{len(packed)} of the modules to merge into are quantised (first: {packed[0]}), and an adapter's change "
            "is finer than their steps; keep adapter and base apart, or train with model.quantization=none."
        )
    with torch.no_grad():
        for name, pair in adapter.pairs.items():
            weight = modules[name].get_parameter("weight")
            weight.copy_((weight.double() + adapter.scale * (pair.b.double() @ pair.a.double())).to(weight.dtype))
        if adapter.projector is not None:
            projector = network.get_submodule(adapter.projector.name)
            projector.get_parameter("weight").copy_(adapter.projector.weight)
            projector.get_parameter("bias").copy_(adapter.projector.bias)
