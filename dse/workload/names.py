"""How a network is named: a name or a path, and behind ``@`` what is to differ from it."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Final

CHANGES: Final = ("width", "resolution", "length", "channels", "classes")
"""What a variant of a network of layers may say, in the order in which names show it."""

AXIS: Final = "axis."
"""Before the name of a model's dynamic axis."""

MODEL_CHANGES: Final = ("classes", "batch_norm", "output")
"""What may differ from a model file, beside ``axis.NAME``."""

MODEL_SUFFIXES: Final = {".onnx": "onnx", ".tflite": "tflite", ".lite": "tflite", ".pt2": "torch"}
"""Ending of a model file that is read -> its format."""

_PICKLE: Final = "it may hold a pickle, and a pickle runs code when it is opened: it is not read"
_TORCH: Final = (
    "save torch.export.save(torch.export.export(module.eval(), (example,)), 'model.pt2'), or .onnx; "
    "from Python: dse.load_network(module, input_shape=(3, 32, 32))"
)
_CONVERT: Final = "convert it with tf.lite.TFLiteConverter and give the .tflite"
_ONNX: Final = "export the model as .onnx, .tflite or .pt2"

REFUSED: Final = {
    **dict.fromkeys((".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"), (_PICKLE, _TORCH)),
    **dict.fromkeys((".h5", ".keras"), ("it may hold code of its layers (Lambda): it is not read", _CONVERT)),
    ".pb": ("a TensorFlow graph is not read", _CONVERT),
    ".pte": ("a compiled program is not read", _TORCH),
    ".safetensors": ("it holds weights without the layers", _ONNX),
    ".npz": ("it holds numbers without the layers", "give the .toml beside it"),
    ".ort": ("a compiled session is not read", "give the .onnx that it was made from"),
}
"""Ending of a file that is not read -> why, and what to give instead."""

_CHANGED: Final = re.compile(r"^(?P<name>.+)@(?P<changes>(?:\w+|axis\.[^=@/\\]+)=.*)$", re.DOTALL)


def split_name(text: str) -> tuple[str, str]:
    """Split ``name@key=value,...`` into the name and what stands behind the ``@``.

    >>> split_name("mobilenet-v1@width=0.5"), split_name("own.onnx")
    (('mobilenet-v1', 'width=0.5'), ('own.onnx', ''))
    """
    match = _CHANGED.match(text)
    return (text, "") if match is None else (match["name"], match["changes"])


def changes_of(text: str) -> list[tuple[str, str]]:
    """Split ``key=value,...`` into pairs.

    >>> changes_of("classes=10, axis.T=100")
    [('classes', '10'), ('axis.T', '100')]
    """
    pairs = (item.partition("=") for item in text.split(",")) if text else ()
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def suffix_of(name: str) -> str:
    """Return the ending of a file's name in small letters."""
    return PurePath(name).suffix.lower()


def is_model_file(name: str) -> bool:
    """Whether ``name`` ends like a model file, be it one that is read or not."""
    return suffix_of(name) in {*MODEL_SUFFIXES, *REFUSED}


def is_file(name: str) -> bool:
    """Whether ``name`` is meant as a file: by its ending, or because it is a path."""
    return name.endswith(".toml") or is_model_file(name) or "/" in name or "\\" in name
