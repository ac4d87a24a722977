"""Paired tests of two models on the same images, on cases whose answer is known."""

import re

import numpy as np
import pytest

from stages.evaluation import significance


def test_pairs_are_tested_on_the_images_where_they_differ():
    base = np.ones(200, bool)
    one, other, same = base.copy(), base.copy(), base.copy()
    one[:2], other[2:22], same[:2] = False, False, False
    table = significance.compare_pairs({"other": other, "one": one, "same": same}, 0.95)
    pair = table[(table["better"] == "one") & (table["worse"] == "other")].iloc[0]
    assert (pair["only_better"], pair["only_worse"], pair["difference"]) == (20, 2, pytest.approx(0.09))
    assert pair["p"] == pytest.approx(2 * (1 + 22 + 231) / 2**22)  # both tails of the binomial distribution
    ends = [pair["difference_low"], pair["difference_high"]]
    assert ends == pytest.approx([0.043191, 0.135027], abs=1e-6)  # 18/202 -+ 1.96 sqrt((24/202 - (18/202)^2) / 202)
    assert re.fullmatch("one is .*better than other", pair["verdict"])
    equal = table[(table["better"] == "one") & (table["worse"] == "same")].iloc[0]
    assert equal["p_holm"] == 1
    assert "better" not in equal["verdict"]


def test_a_difference_that_is_significant_only_before_the_correction_is_not_called_so():
    one, other = np.ones(200, bool), np.ones(200, bool)
    one[0], other[1:10] = False, False
    table = significance.compare_pairs({"one": one, "other": other, "copy of one": one.copy()}, 0.95)
    assert table["p"].min() == pytest.approx(2 * (1 + 10) / 2**10)
    assert table["p"].min() < 0.05 < table["p_holm"].min()
    assert not table["verdict"].str.contains("better").any()


def test_holms_correction():
    np.testing.assert_allclose(significance.holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])
    np.testing.assert_allclose(significance.holm(np.array([0.6, 0.9])), [1, 1])
