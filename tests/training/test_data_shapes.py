"""The embedded shapes: the same bytes everywhere, even classes and backgrounds, figures true to geometry."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from dse.errors import UserError
from dse.training.data import Dataset, load_data
from dse.training.data.drawing import FIGURES, UNIT, Poses, coverage

SMALL: dict[str, Any] = {"kind": "shapes", "train_per_class": 12, "test_per_class": 8}


def shapes(**options: Any) -> Dataset:
    return load_data(SMALL | options)


def test_the_default_is_even_over_classes_and_domains() -> None:
    data = load_data("shapes")
    for part in (data.train, data.test):
        counts = np.zeros((data.classes, 4), dtype=int)
        np.add.at(counts, (part.y, part.domain), 1)
        assert (counts == counts[0, 0]).all()
    assert data.classes == 10
    assert data.train.x.dtype == np.uint8
    assert data.input_shape[0] == 1


def test_the_same_bytes_on_every_machine() -> None:
    assert shapes().content_hash == ("34187aff83f3e3be160657759854ed747c0824f6f3637da4a58782ab81ecb59e")


def test_the_seed_and_the_part_change_the_pictures() -> None:
    data, other = shapes(), shapes(seed=1)
    assert shapes(seed=0).content_hash == data.content_hash != other.content_hash
    assert not np.array_equal(data.train.x[:80], data.test.x[:80])
    everything = [bytes(one) for part in (data.train, data.test, other.train) for one in part.x]
    assert len(set(everything)) == len(everything)


def test_fewer_samples_are_the_first_ones() -> None:
    more, fewer = shapes(train_per_class=20), shapes(train_per_class=5)
    assert np.array_equal(more.train.x[: len(fewer.train)], fewer.train.x)
    assert np.array_equal(more.train.y[: len(fewer.train)], fewer.train.y)


def test_fewer_classes_are_the_first_ones() -> None:
    data, fewer = shapes(), shapes(classes=3)
    assert fewer.class_names == data.class_names[:3]
    assert np.array_equal(data.train.x[data.train.y < 3], fewer.train.x)


def test_noise_is_of_the_deviation_asked_for() -> None:
    plain, noisy = shapes(noise=0, train_per_class=100), shapes(noise=12, train_per_class=100)
    difference = noisy.train.x.astype(int) - plain.train.x
    inside = (plain.train.x > 60) & (plain.train.x < 195)
    assert difference[inside].std() == pytest.approx(12, rel=0.03)
    assert difference[inside].mean() == pytest.approx(-0.5, abs=0.15), "rounded down"


def test_backgrounds_differ_by_domain() -> None:
    data = shapes(noise=0, domains=8, train_per_class=64)
    corners = data.train.x[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]].astype(float)
    mean = np.stack([corners[data.train.domain == one].mean(axis=0) for one in range(8)])
    assert mean[1, 1] - mean[1, 0] > 30, "brighter to the right"
    assert mean[2, 2] - mean[2, 0] > 30, "brighter downwards"
    assert abs(mean[0] - mean[0, 0]).max() < 10, "plain"
    assert (mean[4:] + mean[:4]).mean() == pytest.approx(255, abs=3), "dark and light swapped"


def pose(size: int, angle: int = 0, radius: float = 0.4) -> Poses:
    one = np.ones((1, 1, 1), dtype=np.int64)
    return Poses(0 * one, 0 * one, int(radius * size * UNIT) * one, angle * one)


AREAS = {
    "disc": math.pi, "square": 4 * 49 / 64, "triangle": 3 * math.sqrt(3) * (5 / 8) ** 2,
    "cross": 2 * 4 * 0.3 - 4 * 0.09, "ring": math.pi * (1 - 0.36), "frame": 4 * (49 / 64 - 0.475**2),
    "bar": 4 * 0.3, "two bars": 2 * 4 * 0.2,
}  # fmt: skip
"""Area of a figure of radius 1, by hand."""


@pytest.mark.parametrize("name", AREAS)
@pytest.mark.parametrize("angle", [0, 20, 64])
def test_figures_have_the_area_of_their_geometry(name: str, angle: int) -> None:
    size, radius = 64, 0.4
    covered = coverage(name, pose(size, angle, radius), size).sum() / UNIT
    assert covered == pytest.approx(AREAS[name] * (radius * size) ** 2, rel=0.03)


@pytest.mark.parametrize("name", FIGURES)
def test_a_quarter_turn_turns_the_picture(name: str) -> None:
    still, turned = (coverage(name, pose(32, angle), 32)[0] for angle in (0, 64))
    difference = min(abs(np.rot90(still, turns) - turned).max() for turns in (1, 3))
    assert difference <= 2, "up to rounding down"


def test_every_two_figures_differ() -> None:
    pictures = [coverage(name, pose(20), 20) for name in FIGURES]
    for k, one in enumerate(pictures):
        for other in pictures[k + 1 :]:
            assert abs(one - other).sum() > 20 * UNIT, "twenty pixels at least"


@pytest.mark.parametrize(
    ("option", "value"),
    [("size", 7), ("size", 65), ("classes", 1), ("classes", 11), ("domains", 0), ("domains", 9),
     ("noise", -1), ("noise", 1.5), ("seed", -1), ("seed", True), ("train_per_class", 0),
     ("test_per_class", 10**6)],
)  # fmt: skip
def test_options_out_of_range_are_refused(option: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"task.data.{option}: .*; a whole number from"):
        shapes(**{option: value})


def test_figures_stay_inside_the_picture() -> None:
    data = shapes(noise=0, domains=1, train_per_class=200)
    x = data.train.x[:, 0]
    border = np.concatenate([x[:, [0, -1]].ravel(), x[:, :, [0, -1]].ravel()])
    assert (border < 130).mean() > 0.97, "the ground is darker than the ink"
