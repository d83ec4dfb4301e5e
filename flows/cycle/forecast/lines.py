"""The forecast of a first cycle for people."""

from collections.abc import Mapping
from typing import Any

from remine.flows.cycle.durations import duration


def forecast_lines(plan: Mapping[str, Any]) -> list[str]:
    """The `forecast` of a plan, a line for each stage; or why there is none."""
    if "refused" in plan:
        return [f"forecast   none: {plan['refused']}"]
    cycle = plan["forecast"]
    whole = f"{cycle['rounds']} rounds, if none ends early: about {duration(cycle['seconds'])}"
    memory, disk = (_size(cycle[name]) for name in ("memory_gb", "disk_gb"))
    lines = [f"forecast   {whole}, {memory} of memory, {disk} of disk"]
    for stage in cycle["stages"]:
        times = f"{stage['runs']} x " if stage["runs"] > 1 else ""
        cost = f"about {times}{duration(stage['seconds'])}"
        sizes = f"{_size(stage['memory_gb']):>8} of memory, {_size(stage['disk_gb']):>8} of disk"
        lines.append(f"           {stage['stage']:<9} {cost:<20} {sizes}")
    return lines


def _size(gigabytes: float) -> str:
    if gigabytes >= 1:
        return f"{gigabytes:.1f} GB"
    return f"{gigabytes * 1000:.0f} MB"
