"""A plan as lines of text."""

from collections.abc import Iterator

from listenwell.study.cost import REACHED_SHARE
from listenwell.study.plan import CORRELATION, DISCORDANT_SHARE, StudyPlan


def plan_lines(plan: StudyPlan) -> Iterator[str]:
    """The plan, one fact a line."""
    yield f"{'fits':24} {'number':>7} {'steps':>9} {'operations':>12}"
    for work in plan.work:
        yield f"{work.kind:24} {work.n_fits:7} {work.n_steps:9} {work.flops:12.2e}"
    yield f"{'scoring':24} {'':7} {'':9} {plan.scoring_flops:12.2e}"
    yield f"{'in all':24} {sum(w.n_fits for w in plan.work):7} {sum(w.n_steps for w in plan.work):9} {plan.flops:12.2e}"
    for name, n_bytes in plan.memory.items():
        yield f"memory, {name}: {_gib(n_bytes)}"
    free = "" if plan.free_memory_bytes is None else f"; free now: {_gib(plan.free_memory_bytes)}"
    yield f"memory in all, an upper bound: {_gib(sum(plan.memory.values()))}{free}{_too_much(plan)}"
    yield f"disk: {_gib(plan.disk_bytes)}; free now: {_gib(plan.free_disk_bytes)}"
    if plan.seconds is None or plan.rate is None:
        yield "time on this machine: unknown; --probe measures ten steps"
    else:
        yield f"time on this machine: {_duration(plan.seconds)} at {plan.rate:.2e} operations/s, as eight steps ran"
    for n_machines, seconds, idle in plan.machines:
        if n_machines > 1:
            yield (
                f"training on {n_machines} machines like this one (--executor ray): {_duration(seconds)} instead of "
                f"{_duration(plan.machines[0][1])}, {idle:.0%} of it idle"
            )
    for name, seconds, fits, source in plan.devices:
        memory = "" if fits else "; not enough memory as configured"
        yield f"time on {name}: {_duration(seconds)} at {REACHED_SHARE:.0%} of its peak ({source}){memory}"
    for test_set, n_groups, difference in plan.power:
        shown = (
            f"show a difference in balanced accuracy of {difference:.2f} or more, 8 times in 10"
            if difference <= DISCORDANT_SHARE
            else "are too few to show any difference 8 times in 10"
        )
        yield (
            f"power on {test_set}: {n_groups} groups of the rarer class {shown} (if one method alone is right on "
            f"{DISCORDANT_SHARE:.0%} of the clips, correlation within groups {CORRELATION:g})"
        )


def _too_much(plan: StudyPlan) -> str:
    if plan.free_memory_bytes is None or sum(plan.memory.values()) <= plan.free_memory_bytes:
        return ""
    return "; that is more than is free: lower train.stack or train.batch, or set train.gradient_checkpointing"


def _gib(n_bytes: float) -> str:
    return f"{n_bytes / 2**30:.2f} GiB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
