"""Random chains of layers with windows: any kernel, stride, dilation, and padding at each end by itself."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from dse.workload import load_network

HEAD = 'name = "windows{seed}"\ntitle = "t"\nsource = "s"\nclasses = 3\n'
MOST = 14
"""Positions of an axis."""


@cache
def window_network(seed):
    """A network of three to five layers with windows behind each other, by ``seed``."""
    draw = np.random.default_rng([seed, 41])
    rank = int(draw.integers(1, 3))
    sizes = [int(draw.integers(6, MOST)) for _ in range(rank)]
    axes = ("length",) if rank == 1 else ("height", "width")
    shape = ", ".join(f"{axis} = {size}" for axis, size in zip(axes, sizes, strict=True))
    entries, channels = [], 2
    for place in range(int(draw.integers(3, 6))):
        entry, channels, sizes = _entry(draw, f"l{place}", channels, sizes)
        entries.append(entry)
    entries.append('  { kind = "global_avg_pool", name = "gap" }')
    entries.append('  { kind = "linear", name = "fc", out_features = "classes" }')
    units = sum("pool" not in entry for entry in entries)
    text = HEAD.format(seed=seed) + f"input = {{ channels = 2, {shape} }}\n"
    text += f"legal_cuts = {list(range(units))}\nlayers = [\n" + ",\n".join(entries) + "\n]\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "windows.toml"
        path.write_text(text, encoding="utf-8")
        return load_network(path)


def _entry(draw, name, channels, sizes):
    """Text of a layer that fits its input, and the channels and positions that it leaves."""
    suffix = "1d" if len(sizes) == 1 else ""
    kind = str(draw.choice([f"conv{suffix or '2d'}", f"depthwise{suffix}", "max_pool", "avg_pool"]))
    if name == "l0" and kind.endswith("pool"):
        kind = f"depthwise{suffix}"
    pool = kind.endswith("pool")
    axes = [_axis(draw, size, pool) for size in sizes]
    kernel, stride, dilation, padding, left = (list(part) for part in zip(*axes, strict=True))
    keys = {"kernel": kernel, "stride": stride, "padding": padding}
    if not pool and draw.random() < 0.2:
        keys["padding"], left = '"same"', [-(-size // by) for size, by in zip(sizes, stride, strict=True)]
    if not pool:
        keys["dilation"] = dilation
    if kind.startswith("conv"):
        keys["groups"] = groups = int(draw.integers(1, 3))
        channels = keys["out_channels"] = 2 * groups
    follows = "" if pool or draw.random() < 0.5 else ', then = ["relu"]'
    said = ", ".join(f"{key} = {value}" for key, value in keys.items())
    return f'  {{ kind = "{kind}", name = "{name}", {said}{follows} }}', channels, left


def _axis(draw, size, pool):
    """Kernel, stride, dilation, [before, after], and the positions that are left: at least one."""
    for _ in range(100):
        kernel, stride = int(draw.integers(1, 4)), int(draw.choice([1, 1, 2, 3]))
        dilation = 1 if pool else int(draw.integers(1, 5))
        reach = (kernel - 1) * dilation
        before, after = (int(draw.integers(0, (kernel if pool else reach + 2))) for _ in range(2))
        starts = range(-before, size + after - reach, stride)
        if starts and all(start < size and start + reach >= 0 for start in (starts[0], starts[-1])):
            return kernel, stride, dilation, [before, after], len(starts)
    return 1, 1, 1, [0, 0], size
