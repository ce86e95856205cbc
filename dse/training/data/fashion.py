"""Fashion-MNIST: 70,000 grey images of clothes in ten classes.

Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
Learning Algorithms", arXiv 1708.07747. The checksums are the MD5 of the uncompressed files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from dse.errors import Problem, UserError
from dse.training.data.assemble import assemble
from dse.training.data.base import Dataset
from dse.training.data.download import Remote, fetch
from dse.training.data.idx import read_idx
from dse.training.data.options import Options

URL: Final = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
CLASS_NAMES: Final = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
MD5: Final = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
N_BYTES: Final = {
    "train-images-idx3-ubyte": 47_040_016,
    "train-labels-idx1-ubyte": 60_008,
    "t10k-images-idx3-ubyte": 7_840_016,
    "t10k-labels-idx1-ubyte": 10_008,
}


def load_fashion(options: Options) -> Dataset:
    """Load Fashion-MNIST: 60,000 training and 10,000 test images (n, 1, 28, 28) uint8.

    Options: ``path``, a folder with the four IDX files (gzip or not); without it they are downloaded once
    into the cache folder. ``url``, where a copy of the same files lies (the checksums stay).
    """
    folder = options.path("path", "a folder with the four IDX files", is_folder=True, required=False)
    url = options.text("url", URL)
    options.finish()
    if folder is not None:
        files = [_file(folder, name) for name in MD5]
    else:
        remotes = [
            Remote(f"{url.rstrip('/')}/{name}.gz", name, f"md5:{md5}", N_BYTES[name])
            for name, md5 in MD5.items()
        ]
        files = fetch(
            "fashion-mnist", remotes, hint='[task] data = { kind = "fashion-mnist", path = "FOLDER" }'
        )
    x, y, x_test, y_test = (
        read_idx(file, axes=3 if "images" in name else 1, md5=MD5[name])
        for file, name in zip(files, MD5, strict=True)
    )
    images, labels = [x[:, None], x_test[:, None]], [y.astype(np.int64), y_test.astype(np.int64)]
    return assemble("fashion-mnist", images, labels, None, CLASS_NAMES, source="arXiv 1708.07747")


def _file(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise UserError(Problem(str(folder), f"{name}.gz", "not there", f"the four files of {URL}"))
