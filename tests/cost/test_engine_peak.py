"""Peak of the public engine on a network small enough to add up by hand; rule by rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from dse.cost.engine_peak import NO_SKIP_GRADIENT, QUIRKS, RATIO_TWICE, EnginePeak, engine_peak
from dse.errors import UserError
from dse.plan.policy import UnitKey, UpdatePolicy
from dse.workload import Workload, load_network

# Units 0 conv1, 1 expand, 2 depthwise, 3 project, 4 classifier; 8x8 pixels; one residual block.
TINY = """
name = "tiny"
title = "one residual block"
source = "own"
input = { channels = 3, height = 8, width = 8 }
classes = 2
legal_cuts = [0, 3]
layers = [
  { kind = "conv2d", name = "conv1", out_channels = 4, kernel = 3, padding = 1, then = ["relu6"] },
  { kind = "pointwise", name = "expand", out_channels = 8, then = ["relu6"] },
  { kind = "depthwise", name = "depthwise", kernel = 3, stride = 1, padding = 1, then = ["relu6"] },
  { kind = "pointwise", name = "project", out_channels = 4 },
  { kind = "add", name = "add", inputs = ["conv1", "project"] },
  { kind = "global_avg_pool", name = "pool" },
  { kind = "linear", name = "classifier", out_features = "classes" },
]
"""
CLASSIFIER = 8 + 4 * 2  # int8 weights, 4-byte biases
BIASES = 4 * 8 + 4 * 8 + 4 * 4  # units 1, 2, 3
KERNELS = 2 * (8 + 2) ** 2 + 864
TRAINED = 16  # weights of unit 1 at ratio 0.5: 2 of 4 input channels x 8 output channels
FIXED = CLASSIFIER + BIASES + TRAINED + KERNELS
WIDE, NARROW = 4 * 512, 4 * 256  # fp32 errors of 8 and of 4 channels
HALF: dict[UnitKey, float] = {1: 0.5}


def written(folder: Path, text: str) -> Workload:
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return load_network(path)


@pytest.fixture
def tiny(tmp_path: Path) -> Workload:
    return written(tmp_path, TINY)


def peak(workload: Workload, k: int, ratio: dict[UnitKey, float], **options: object) -> EnginePeak:
    return engine_peak(workload, UpdatePolicy.of_scheme(k, ratio), **options)  # type: ignore[arg-type]


def test_it_is_the_weight_step_of_the_expansion(tiny: Workload) -> None:
    """The error, the stored input widened to fp32, and its trained half; masks and int8 input are gone."""
    found = peak(tiny, 3, HALF)
    assert found.step == "bwd_weight expand"
    assert found.total_bytes == FIXED + WIDE + 4 * 256 + 4 * 128 == 4760
    assert found.by_kind() == {
        "error": WIDE, "scratch": 1024 + 512, "kernel buffer": KERNELS,
        "trained parameters": CLASSIFIER + BIASES + TRAINED,
    }  # fmt: skip


def test_ratio_twice_halves_the_trained_weights_once_more(tiny: Workload) -> None:
    assert peak(tiny, 3, HALF, quirks=[RATIO_TWICE]).total_bytes == 4760 - TRAINED // 2
    whole: dict[UnitKey, float] = {1: 1.0}
    assert peak(tiny, 3, whole, quirks=[RATIO_TWICE]) == peak(tiny, 3, whole)


def test_biases_alone_peak_where_the_addition_scales_its_error(tiny: Workload) -> None:
    """Three copies of the block-output error, beside the clamp masks of the block; the byte mask is gone."""
    found = peak(tiny, 3, {})
    masks = 512 // 8 + 512 // 8 + 256 // 8
    assert found.step == "bwd add"
    assert found.total_bytes == FIXED - TRAINED + 3 * NARROW + masks


def test_the_skip_path_carries_an_error_where_something_below_learns(tiny: Workload) -> None:
    """With the biases of unit 0 one block-output error waits beside everything inside the block."""
    biases_0 = 4 * 4
    found = peak(tiny, 4, HALF)
    own_mask = 256 // 8
    inside = FIXED + biases_0 + own_mask + WIDE + 1024 + 512
    assert found.step == "bwd_weight expand"
    assert found.total_bytes == inside + NARROW
    assert peak(tiny, 4, HALF, quirks=[NO_SKIP_GRADIENT]).total_bytes == inside


def test_an_error_that_arrives_second_is_added_to_the_first(tiny: Workload) -> None:
    """Biases of all units: at the project layer its error, the depthwise one's, and the skip path's."""
    masks = 256 // 8 + 512 // 8 + 512 // 8  # conv1, expand, depthwise
    found = peak(tiny, 4, {})
    assert found.step == "bwd_input project"
    assert found.total_bytes == FIXED - TRAINED + 4 * 4 + masks + NARROW + WIDE + NARROW


def test_without_reordering_gradients_stay(tiny: Workload) -> None:
    """Gradients in fp32 of what came before: classifier (2 x 4 + 2), biases of project, depthwise, expand."""
    gradients = 4 * (8 + 2) + 4 * 4 + 4 * 8 + 4 * 8
    assert peak(tiny, 3, HALF, reorder=False).total_bytes == 4760 + gradients


def test_without_reordering_an_input_gradient_widens_its_weights(tiny: Workload) -> None:
    found = peak(tiny, 3, {}, reorder=False)
    gradients = 4 * (8 + 2) + 4 * 4
    assert found.step == "bwd_input project"
    assert found.total_bytes == FIXED - TRAINED + 128 + NARROW + WIDE + 4 * 32 + gradients


def test_fp32_layers_store_four_bytes_and_widen_nothing(tiny: Workload) -> None:
    found = peak(tiny, 3, HALF, dtype="fp32")
    trained = 4 * 16 + BIASES + 4 * 8 + 8
    assert found.step == "bwd add"
    assert found.total_bytes == trained + KERNELS + 4 * 256 + 160 + 3 * NARROW


def test_a_depthwise_layer_of_stride_2_does_not_overwrite_its_error(tmp_path: Path) -> None:
    """A chain without the addition: at stride 2 the 8x8 and the 4x4 error of 8 channels live together."""
    chain = TINY.replace('  { kind = "add", name = "add", inputs = ["conv1", "project"] },\n', "")
    halved = written(tmp_path, chain.replace("stride = 1", "stride = 2").replace("[0, 3]", "[0]"))
    found = peak(halved, 3, {})
    assert found.step == "bwd_input depthwise"
    mask = 512 // 8  # of the expansion
    assert found.total_bytes == FIXED - TRAINED + mask + 4 * 128 + WIDE


def test_buffers_add_up_and_have_owners(tiny: Workload) -> None:
    found = peak(tiny, 4, HALF, quirks=QUIRKS)
    assert sum(found.by_kind().values()) == found.total_bytes
    assert all(buffer.name and buffer.size > 0 for buffer in found.buffers)


@pytest.mark.parametrize("name", ["mcunet-5fps", "mobilenet-v2-w0.35", "proxylessnas-w0.3"])
def test_quirks_never_add_and_reordering_never_costs(name: str) -> None:
    workload = load_network(name)
    policy = UpdatePolicy.of_scheme(30, {25: 0.5, 30: 1.0})
    for reorder in (True, False):
        true = engine_peak(workload, policy, reorder=reorder)
        assert engine_peak(workload, policy, reorder=reorder, quirks=QUIRKS).total_bytes <= true.total_bytes
    fused, loose = (engine_peak(workload, policy, reorder=reorder) for reorder in (True, False))
    assert fused.total_bytes <= loose.total_bytes


def test_every_mistake_at_once(tmp_path: Path) -> None:
    unclamped = 'padding = 1, then = ["relu6"] },\n  { kind = "pointwise", name = "project"'
    assert unclamped in TINY
    strange = written(tmp_path, TINY.replace(unclamped, unclamped.replace("relu6", "hard_swish")))
    with pytest.raises(UserError) as caught:
        peak(strange, 3, HALF, quirks=["ratio-thrice"], dtype="int4")
    text = [str(problem) for problem in caught.value.problems]
    assert len(text) == 3
    assert "unknown quirk 'ratio-thrice'; did you mean 'ratio-twice'" in text[0]
    assert "unknown dtype of the engine 'int4'" in text[1]
    assert "the engine has no hard_swish" in text[2]


def test_the_engine_has_no_dilated_kernels(tmp_path: Path) -> None:
    dilated = written(tmp_path, TINY.replace("stride = 1, padding = 1", "padding = 2, dilation = 2"))
    with pytest.raises(UserError, match=r"depthwise: dilation \[2, 2\]; the engine's kernels have none"):
        peak(dilated, 3, HALF)


def test_the_unfolded_input_has_the_padding_of_each_end(tiny: Workload, tmp_path: Path) -> None:
    """Two channels of 8x8: two rows of taps need one row more, behind; 9 x 10, not 10 x 10."""
    ends = "kernel = [2, 3], stride = 1, padding = [[0, 1], 1]"
    uneven = written(tmp_path, TINY.replace("kernel = 3, stride = 1, padding = 1", ends))
    kernels = [peak(each, 3, HALF).by_kind()["kernel buffer"] for each in (tiny, uneven)]
    assert kernels == [2 * 10 * 10 + 864, 2 * 9 * 10 + 864]
