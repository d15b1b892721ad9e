"""Low-rank adapters, stacked: one frozen base, K adapters, row k of the batch through adapter k.

LoRA (Hu et al. 2021, arXiv:2106.09685) adds to a frozen linear map y = W x the change
    (alpha / rank) B A dropout(x),    A (rank, n_in), B (n_out, rank), B = 0 at the start.
Linear modules that read the same input (q, k, v; gate, up) are one `Projection`: one product of the base with their
weights W one below the other, and one change, with their A one below the other and their B along a diagonal. In a stack
x is (K, L, n_in): the base multiplies all rows at once, the change is a batched product
    (K, L, n_in) @ (K, n_in, M R) @ (K, M R, n_out),
M being the number of modules, n_out that of all outputs and R the largest rank (the rest of A and B is zero, which
changes nothing). K = 1 is the ordinary case. The backward pass is written out, since autograd would keep, cast and add
the parts of every module one by one.

Shapes: K adapters, L positions, M modules of a projection, R rank.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from listenwell.errors import ModelError
from listenwell.model.settings import LoraConfig
from listenwell.random_streams import stream, stream_key

A, B = ".lora_A.weight", ".lora_B.weight"
"""What PEFT's names of a module's two factors end with."""


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Linear modules that read the same input, as one product.

    names: of the modules, in full; sizes: n_out of each. weight (sum of sizes, n_in), bias (sum of sizes,) or None: the
    modules' own, one below the other. Quantised weights cannot be joined: then weight is None, and the modules are
    called. input_name: of the module whose name the dropout of this input is keyed by.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    modules: tuple[torch.nn.Linear, ...]
    weight: torch.Tensor | None
    bias: torch.Tensor | None
    input_name: str

    def part(self, start: int, stop: int) -> "Projection":
        """The modules start to stop alone, over the same memory."""
        rows = slice(sum(self.sizes[:start]), sum(self.sizes[:stop]))
        return Projection(
            self.names[start:stop],
            self.sizes[start:stop],
            self.modules[start:stop],
            None if self.weight is None else self.weight[rows],
            None if self.bias is None else self.bias[rows],
            self.input_name,
        )

    def base(self, x: torch.Tensor) -> torch.Tensor:
        """What the frozen modules make of x (..., n_in): (..., sum of sizes)."""
        if self.weight is None:
            return torch.cat([module(x) for module in self.modules], dim=-1)
        return linear(x, self.weight, self.bias)


def join_modules(network: torch.nn.Module, *names: str) -> Projection:
    """Make one projection of the frozen modules `names`, which read the same input.

    Their weights become views of one tensor, so what is later written into them in place (`merge_adapter`) is in both.
    A module without bias beside others with one gets zeros in the joint bias, and stays without.
    """
    modules: Any = tuple(network.get_submodule(name) for name in names)
    sizes = tuple(module.out_features for module in modules)
    weight, bias = modules[0].weight, modules[0].bias
    if any(not module.weight.is_floating_point() for module in modules):
        weight = bias = None
    elif len(modules) > 1:
        weight = torch.cat([module.weight.detach() for module in modules])
        for module, rows in zip(modules, torch.split(weight, list(sizes)), strict=True):
            module.weight.data = rows
        if any(module.bias is not None for module in modules):
            zeros = (weight.new_zeros(size) for size in sizes)
            bias = torch.cat([z if m.bias is None else m.bias.detach() for m, z in zip(modules, zeros, strict=True)])
    return Projection(names, sizes, modules, weight, bias, names[0])


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


def interpolate(adapter: Adapter, projector: ProjectorWeights, share: float) -> Adapter:
    """Return the adapter with a share of its change: 0 would be the base, 1 is the adapter to the bit.

    projector: the base's. The weights lie on the line between the base's and the fine-tuned ones (WiSE-FT: Wortsman et
    al. 2022, arXiv:2109.01903).
    """
    between = adapter.frozen_copy()
    for pair in between.pairs.values():
        pair.b *= share
    if between.projector is not None:
        between.projector.weight.lerp_(projector.weight, 1 - share)
        between.projector.bias.lerp_(projector.bias, 1 - share)
    return between


@dataclass(frozen=True, slots=True)
class Draw:
    """Which of the positions that dropout is drawn for a row holds: index (its length,) into n_positions."""

    n_positions: int
    index: torch.Tensor


class Attached:
    """Adapters in place for one forward pass: row k of every projection's input goes through adapters[k].

    One adapter takes all rows; without adapters, the base alone. row_lengths: valid positions of each row, the rest
    being padding; dropout is drawn for the valid ones alone, so a row's masks do not depend on how long its neighbours
    are. None: all count. draws: instead of row_lengths, one for each row.
    """

    def __init__(
        self,
        adapters: Sequence[Adapter],
        row_lengths: Sequence[int] | None = None,
        draws: Sequence[Draw] | None = None,
    ) -> None:
        self.adapters, self.row_lengths, self.draws = adapters, row_lengths, draws

    def project(self, projection: Projection, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """Outputs (rows, L, sum of sizes) for x (rows, L, n_in), those of the modules side by side, plus residual."""
        parts = [
            _Part(k, m, pair)
            for k, adapter in enumerate(self.adapters)
            for m, name in enumerate(projection.names)
            if (pair := adapter.pairs.get(name)) is not None
        ]
        if not parts:
            output = projection.base(x)
            return output if residual is None else output + residual
        if projection.weight is None:
            base = projection.base(x)
            residual = base if residual is None else base + residual
        # alpha / rank, over the share that dropout keeps
        scales = [adapter.scale / (1 - adapter.dropped_share) for adapter in self.adapters]
        factors = [factor for part in parts for factor in (part.pair.a, part.pair.b)]
        changed: torch.Tensor = _Project.apply(  # type: ignore[no-untyped-call]
            x, residual, self._mask(projection, x), projection, scales, parts, *factors
        )
        return changed

    def _mask(self, projection: Projection, x: torch.Tensor) -> torch.Tensor | None:
        """Zeros and ones (rows, L, n_in) of what dropout leaves of x; None where all is kept."""
        if not any(adapter.dropped_share for adapter in self.adapters):
            return None
        return keep_mask(projection.input_name, x, self.adapters, self.row_lengths, self.draws)


@dataclass(frozen=True, slots=True)
class _Part:
    """The change of adapter k to module m of a projection."""

    k: int
    m: int
    pair: LoraPair

    @property
    def rank(self) -> int:
        return self.pair.a.shape[0]


class _Project(torch.autograd.Function):
    """residual + W x + bias + B A (mask x): x (rows, L, n_in), residual and result (rows, L, n_out).

    Without W (quantised) the residual holds it. The factors come as they are trained, each part's a (rank, n_in) and
    b (n_out of its module, rank), and get their gradients as such.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        residual: torch.Tensor | None,
        mask: torch.Tensor | None,
        projection: Projection,
        scales: Sequence[float],
        parts: Sequence[_Part],
        *factors: torch.Tensor,
    ) -> torch.Tensor:
        n_adapters = len(scales)
        a, b = _stack_factors(x, projection, scales, parts)
        dropped = x if mask is None else x * mask
        # one adapter takes all rows: they are one long row
        dropped = dropped.view(n_adapters, -1, x.shape[2])
        reduced = torch.bmm(dropped, a.transpose(1, 2))
        output = _frozen_product(x.view(-1, x.shape[2]), residual, projection)
        output.view(n_adapters, -1, output.shape[-1]).baddbmm_(reduced, b.transpose(1, 2))
        ctx.save_for_backward(dropped, mask, reduced, a, b)
        ctx.projection, ctx.scales, ctx.parts = projection, scales, parts
        return output.view(*x.shape[:2], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dropped, mask, reduced, a, b = ctx.saved_tensors
        projection, scales, parts = ctx.projection, ctx.scales, ctx.parts
        by_row = gradient.reshape(len(scales), -1, gradient.shape[-1])
        of_reduced = torch.bmm(by_row, b)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = torch.bmm(of_reduced, a)
            of_x = of_x if mask is None else of_x.mul_(mask.view(of_x.shape))
            if projection.weight is not None:
                of_x.view(-1, of_x.shape[-1]).addmm_(by_row.flatten(0, 1), projection.weight)
            of_x = of_x.view(*gradient.shape[:2], -1)
        of_a = torch.bmm(of_reduced.transpose(1, 2), dropped).float()
        # this way round, since the other is slower in bfloat16
        of_b = torch.bmm(reduced.transpose(1, 2), by_row).float()
        offsets, rank = _offsets(projection), a.shape[1] // len(projection.sizes)
        of_factors = []
        for part in parts:
            rows = slice(part.m * rank, part.m * rank + part.rank)
            columns = slice(offsets[part.m], offsets[part.m + 1])
            of_part = of_b[part.k, rows, columns].t()
            # a new tensor, contiguous as a restored gradient is, so that norms sum alike
            of_factors += [of_a[part.k, rows], torch.mul(of_part, scales[part.k], out=of_part.new_empty(of_part.shape))]
        return of_x, gradient if ctx.needs_input_grad[1] else None, None, None, None, None, *of_factors


def _frozen_product(x: torch.Tensor, residual: torch.Tensor | None, projection: Projection) -> torch.Tensor:
    """The base's outputs for x (n, n_in) plus the residual (rows, L, n_out), a new tensor (n, n_out)."""
    if residual is None:
        return projection.base(x)
    residual = residual.reshape(x.shape[0], -1)
    if projection.weight is None:
        return residual.clone()
    if projection.bias is None:
        return torch.addmm(residual, x, projection.weight.t())
    return linear(x, projection.weight, projection.bias).add_(residual)


def _stack_factors(
    x: torch.Tensor, projection: Projection, scales: Sequence[float], parts: Sequence[_Part]
) -> tuple[torch.Tensor, torch.Tensor]:
    """A (K, M R, n_in) and B (K, n_out, M R) of all parts, B times its adapter's scale, in the precision of x."""
    rank, offsets = max(part.rank for part in parts), _offsets(projection)
    a = x.new_zeros(len(scales), len(projection.sizes) * rank, x.shape[-1])
    b = x.new_zeros(len(scales), offsets[-1], a.shape[1])
    for part in parts:
        columns = slice(part.m * rank, part.m * rank + part.rank)
        a[part.k, columns] = part.pair.a
        b[part.k, offsets[part.m] : offsets[part.m + 1], columns] = part.pair.b * scales[part.k]
    return a, b


def _offsets(projection: Projection) -> list[int]:
    """Where the outputs of each module begin, and where the last ones end."""
    return [sum(projection.sizes[:m]) for m in range(len(projection.sizes) + 1)]


def keep_mask(
    name: str,
    x: torch.Tensor,
    adapters: Sequence[Adapter],
    row_lengths: Sequence[int] | None,
    draws: Sequence[Draw] | None = None,
    on_cpu: bool | None = None,
) -> torch.Tensor:
    """Of x's shape (rows, L, n_in) and precision: 0 where an input is dropped, otherwise 1, each row by its adapter's
    own stream. Padding positions keep their inputs. on_cpu: whether x lies there, and numpy draws."""
    on_cpu = x.device.type == "cpu" if on_cpu is None else on_cpu
    lengths = row_lengths or [x.shape[1]] * x.shape[0]
    rows = []
    for k, adapter in enumerate(adapters):
        n_valid = [lengths[k]] if len(adapters) > 1 else list(lengths)
        if (key := adapter.dropout_key) is None or not adapter.dropped_share:
            rows += [torch.ones(1, x.shape[2], dtype=torch.uint8, device=x.device).expand(n, -1) for n in n_valid]
            continue
        draw = draws[k] if draws else None
        shape = (sum(n_valid) if draw is None else draw.n_positions, x.shape[2])
        kept = _draw_kept(key, name, shape, round(adapter.dropout * 256), None if on_cpu else x.device)
        rows += torch.split(kept if draw is None else kept.index_select(0, draw.index), n_valid)
    padded = [torch.nn.functional.pad(row, (0, 0, 0, x.shape[1] - row.shape[0]), value=1) for row in rows]
    return torch.stack(padded).to(x.dtype)


def _draw_kept(
    key: tuple[int, int], name: str, shape: tuple[int, int], n_dropped: int, device: torch.device | None
) -> torch.Tensor:
    """Zeros and ones of this shape, as bytes, which become floats several times as fast as truth values do: 0 for
    n_dropped of 256 random bytes, from numpy on the CPU, or drawn on `device`."""
    seed, batch = key
    if device is None:
        # the bytes of Generator.bytes, in half of the time
        raw = stream(seed, "dropout", batch, name).bit_generator.random_raw(math.ceil(shape[0] * shape[1] / 8))
        drawn = raw.astype("<u8", copy=False).view(np.uint8)[: shape[0] * shape[1]]
        return torch.from_numpy((drawn >= n_dropped).view(np.uint8)).view(shape)
    generator = torch.Generator(device)
    generator.manual_seed(stream_key(seed, "dropout", batch, name) % 2**63)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8, device=device).ge_(n_dropped)


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
