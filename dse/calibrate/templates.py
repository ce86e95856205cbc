"""Tables of measurements to start from: a header and two rows of each form."""

from __future__ import annotations

from typing import Final

from dse.errors import UnknownName

TEMPLATES: Final = {
    "mlperf": (
        "# Whole networks, as MLPerf Tiny measures them; delete these comments and the example rows.\n"
        "# The header carries the unit: latency_s, latency_ms, latency_us; energy_j, energy_mj, energy_uj; "
        "power_w, power_mw.\n"
        "network,dtype,clock_mhz,latency_ms,energy_uj,power_mw,note\n"
        "autoencoder,int8,120,9.66571,431.211,44.6887,ad\n"
        "resnet8,int8,120,252.76,12298.3,48.7282,ic\n"
    ),
    "network": (
        "# Networks or single layers of them (name or index of a unit, with what follows it).\n"
        "# pass: fwd (empty), bwd_input, bwd_weight, update. library and cores: empty for the board's own.\n"
        "# repeats: the runs that a row is the mean of.\n"
        "network,layer,pass,dtype,library,cores,clock_mhz,latency_ms,power_mw,repeats,note\n"
        "resnet8,,fwd,int8,,,120,252.76,48.7,20,whole network\n"
        "mobilenet-v1-0.25-vww,1,fwd,int8,,,120,9.1,,20,depthwise layer alone\n"
    ),
    "kernels": (
        "# Single kernels, as PULP libraries are timed: operator with macs, or an element operation with "
        "elements.\n"
        "# pass: fwd, bwd_input, bwd_weight (also FW, IG, WG, and WG+IG for both together), update.\n"
        "# cores: empty for the board's own.\n"
        "operator,pass,dtype,cores,macs,elements,cycles,note\n"
        'conv2d,fwd,fp32,,41472,,27668,"3x3, in 8x8x8, out 16x6x6"\n'
        "relu,fwd,fp32,,,576,917,16x6x6\n"
    ),
}


def template(form: str) -> str:
    """Return the table called ``form`` as CSV text; raises UnknownName."""
    if form not in TEMPLATES:
        raise UnknownName("template", form, TEMPLATES, key="--template")
    return TEMPLATES[form]
