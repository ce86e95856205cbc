"""The handwritten digits that come with scikit-learn: 1,797 images of 8 x 8 pixels.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
doi 10.24432/C50P49 (its test part). Small: accuracies of class-incremental runs vary by points between seeds.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

import numpy as np

from dse.training.data.assemble import assemble
from dse.training.data.base import Dataset
from dse.training.data.options import Options
from dse.training.data.splits import drawn

TEST_SHARE: Final = 0.25


def load_digits(options: Options) -> Dataset:
    """Load the digits as (n, 1, 8, 8) uint8 from 0 to 16.

    Options: ``test_share`` (0.25) of each class that is tested on, drawn by ``seed`` (0).
    """
    share, seed = (
        options.number("test_share", TEST_SHARE, 0.05, 0.9),
        options.integer("seed", 0, 0, 2**31 - 1),
    )
    if find_spec("sklearn") is None:
        options.wrong(
            "kind", "the digits come with scikit-learn", "pip install 'tinyml-dse[train]', or shapes"
        )
    options.finish()
    from sklearn.datasets import load_digits as bundled

    images, labels = bundled(return_X_y=True)
    x = images.astype(np.uint8).reshape(-1, 1, 8, 8)
    y = np.asarray(labels, dtype=np.int64)
    test = drawn(y, share, seed)
    names = tuple(str(one) for one in range(10))
    return assemble(
        "digits", [x[~test], x[test]], [y[~test], y[test]], None, names, source="doi 10.24432/C50P49"
    )
