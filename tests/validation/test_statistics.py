from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dse.validation.statistics import (
    FEWEST,
    covered,
    differs,
    kendall,
    mean_interval,
    ordered_right,
    paired_noise,
    regret,
    run_noise,
    spearman,
    without_seed_effects,
)

T2 = 2.919986  # 95 % quantile of Student's t with 2 degrees of freedom, from a table


def test_mean_interval_by_hand() -> None:
    found = mean_interval(np.array([0.1, 0.2, 0.3]))
    half = T2 * 0.1 / np.sqrt(3)
    assert found == pytest.approx((0.2, 0.2 - half, 0.2 + half), rel=1e-6)
    alone = mean_interval(np.array([0.4]))
    assert alone.value == 0.4
    assert np.isnan(alone.low)


def test_noise_by_hand() -> None:
    accuracies = np.array([[0.1, 0.3], [0.5, 0.5]])
    assert run_noise(accuracies) == pytest.approx(np.sqrt((0.02 + 0.0) / 2))
    # plan + seed: means 0.2, 0.5 and 0.3, 0.4, overall 0.35; every residual is 0.05 in size.
    assert paired_noise(accuracies) == pytest.approx(np.sqrt(4 * 0.05**2))
    assert np.isnan(run_noise(accuracies[:, :1]))
    assert np.isnan(paired_noise(accuracies[:1]))


def test_what_a_seed_does_to_all_plans_is_no_paired_noise() -> None:
    plans, seeds = np.array([[0.5], [0.6], [0.7]]), np.array([[-0.2, 0.1, 0.1]])
    assert paired_noise(plans + seeds) == pytest.approx(0, abs=1e-12)
    assert run_noise(plans + seeds) == pytest.approx(np.std([-0.2, 0.1, 0.1], ddof=1))


def test_seed_effects_are_the_median_deviation() -> None:
    plans = np.array([[0.5], [0.55], [0.6], [0.7], [0.75], [0.8], [0.85]])
    seeds = np.array([[-0.2, 0.1, 0.1]])
    level = np.broadcast_to(plans, (7, 3))
    np.testing.assert_allclose(without_seed_effects(plans + seeds), level, atol=1e-12)
    odd, swing = plans + seeds, np.array([0.3, -0.3, 0.0])
    odd[6] += swing
    flat = without_seed_effects(odd)
    np.testing.assert_allclose(flat[:6], level[:6], atol=1e-12)  # one plan's swing leaves the others alone
    np.testing.assert_allclose(flat[6], plans[6] + np.sqrt(7 / 6) * swing, atol=1e-12)  # and is stretched
    np.testing.assert_allclose(flat.mean(axis=1), odd.mean(axis=1))
    few = odd[:5]
    assert without_seed_effects(few) is few
    chosen = np.arange(7) < 6
    np.testing.assert_allclose(
        without_seed_effects(odd, chosen)[6], plans[6] + np.sqrt(6 / 5) * swing, atol=1e-12
    )


def test_intervals_within_seeds_cover_what_they_say() -> None:
    draw = np.random.default_rng(3)
    t, hits = 2.919986, []  # quantile of the t distribution, 0.95, two degrees of freedom
    for _ in range(400):
        table = draw.normal(0, 0.03, (1, 3)) + draw.normal(0, 0.01, (6, 3))
        flat = without_seed_effects(table)
        # The truth for differences between plans: their means less what the seeds did to all of them.
        centred = flat - (table.mean() - 0.0)
        half = t * flat.std(axis=1, ddof=1) / np.sqrt(3)
        hits.append(np.abs(centred.mean(axis=1)) <= half)
    assert 0.84 <= np.mean(hits) <= 0.97


def test_pairs_are_told_apart_by_their_paired_differences() -> None:
    shared = np.array([0.2, -0.1, 0.05])
    accuracies = np.stack([0.5 + shared, 0.51 + shared, 0.5 + shared + np.array([0.03, -0.03, 0.0])])
    found = differs(accuracies)
    assert found.tolist() == [[False, True, False], [True, False, False], [False, False, False]]
    assert not differs(accuracies[:, :1]).any(), "one seed tells nothing apart"
    assert not differs(np.full((2, 3), 0.5)).any()


@given(st.integers(0, 10**6), st.integers(2, 6))
def test_told_apart_agrees_with_a_paired_t_test(seed: int, seeds: int) -> None:
    accuracies = np.random.default_rng(seed).normal(0.5, 0.1, (3, seeds))
    found = differs(accuracies)
    for i in range(3):
        for j in range(i):
            assert found[i, j] == (stats.ttest_rel(accuracies[i], accuracies[j]).pvalue < 0.1)


def test_order_of_the_pairs_that_are_told_apart() -> None:
    accuracies = np.array([[0.1, 0.1001], [0.2, 0.2001], [0.3, 0.3001], [0.3, 0.3001]])
    assert ordered_right(np.array([1.0, 2.0, 3.0, 4.0]), accuracies) == (6, 5, 1.0)
    assert ordered_right(np.array([2.0, 1.0, 3.0, 3.0]), accuracies) == (6, 5, pytest.approx(4 / 5))
    assert ordered_right(np.array([1.0, 1.0, 1.0, 1.0]), accuracies) == (6, 5, 0.5)
    pairs, apart, share = ordered_right(np.array([1.0, 2.0]), accuracies[2:])
    assert (pairs, apart) == (1, 0)
    assert np.isnan(share)


def test_regret_by_hand() -> None:
    accuracies = np.array([[0.5, 0.6, 0.7], [0.8, 0.7, 0.9], [0.4, 0.4, 0.4]])
    assert regret(np.array([0.1, 0.9, 0.2]), accuracies) == (0, 0, 0)
    found = regret(np.array([0.9, 0.1, 0.2]), accuracies)
    gaps = np.array([0.3, 0.1, 0.2])
    assert found.value == pytest.approx(0.2)
    assert found.high - found.value == pytest.approx(T2 * gaps.std(ddof=1) / np.sqrt(3), rel=1e-6)
    tied = regret(np.array([0.9, 0.9, 0.2]), accuracies)
    assert tied.value == pytest.approx(0.1), "of plans predicted alike the mean counts"
    assert np.isnan(regret(np.array([0.1]), accuracies[:1]).value)


def test_covered_by_hand() -> None:
    low, high = np.array([0.4, 0.0, np.nan]), np.array([0.6, 0.1, np.nan])
    accuracies = np.array([[0.4, 0.5], [0.05, 0.2], [0.5, 0.5]])
    assert covered(low, high, accuracies) == pytest.approx(3 / 4)
    assert np.isnan(covered(low[2:], high[2:], accuracies[2:]))


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(FEWEST, 30), st.booleans())
def test_rank_correlations_agree_with_scipy(seed: int, count: int, ties: bool) -> None:
    draw = np.random.default_rng(seed)
    x, y = draw.normal(size=count), draw.normal(size=count)
    if ties:
        x, y = np.round(x), np.round(y)
    for mine, theirs in ((spearman, stats.spearmanr), (kendall, stats.kendalltau)):
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            assert np.isnan(mine(x, y).value)
            continue
        found = mine(x, y)
        if np.isfinite(found.value):
            assert found.value == pytest.approx(theirs(x, y).statistic, abs=1e-12)
            assert -1 <= found.low <= found.high <= 1


def test_intervals_of_correlations_are_those_of_a_plain_bootstrap() -> None:
    draw = np.random.default_rng(3)
    x = draw.normal(size=12)
    y = x + draw.normal(0, 0.8, size=12)
    for mine, theirs in ((spearman, stats.spearmanr), (kendall, stats.kendalltau)):
        found = mine(x, y, 5)
        rows = np.random.default_rng(99).integers(0, 12, (3000, 12))
        values = [theirs(x[row], y[row]).statistic for row in rows]
        assert (found.low, found.high) == pytest.approx(np.quantile(values, [0.05, 0.95]), abs=0.04)
        assert found == mine(x, y, 5), "the same seed, the same bits"
        assert found != mine(x, y, 6)


def test_too_few_plans_have_no_correlation() -> None:
    few = np.arange(FEWEST - 1.0)
    assert np.isnan(spearman(few, few).value)
    assert np.isnan(kendall(few, few).value)
    enough = np.arange(float(FEWEST))
    assert spearman(enough, enough).value == 1
    assert np.isnan(kendall(enough, np.ones(FEWEST)).value)
