"""Picture files as uint8 arrays, read without trust: format and size are known before pixels are decoded."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.training.data.checks import size_problem
from dse.training.data.options import Options

FORMATS: Final = ("PNG", "JPEG", "BMP", "PPM", "WEBP")
SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".webp")
COLOURS: Final = {"grey": ("L", 1), "rgb": ("RGB", 3)}
"""Option ``colour`` -> mode of pillow, channels."""

MOST_PIXELS: Final = 1 << 24
MOST_REPORTED: Final = 20
_EIGHT_BITS: Final = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_BROKEN: Final = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Warning, MemoryError)


def require_pillow(options: Options) -> None:
    """Note in ``options`` that pictures cannot be read where pillow is not installed."""
    if find_spec("PIL") is None:
        options.wrong("kind", "pictures are read with pillow", "pip install 'tinyml-dse[train]'")


def read_pictures(paths: Sequence[Path], colour: str, size: int, options: Options) -> NDArray[np.uint8]:
    """Return the pictures of ``paths`` as (n, C, H, W) uint8.

    Parameters
    ----------
    paths: the files.
    colour: "grey" (C = 1) or "rgb" (C = 3).
    size: height and width [pixels] to which the middle square of each is resized; 0: all have one size.
    options: where the message says that the pictures were named.

    Raises UserError with every picture that cannot be read (the first 20), or does not have the common size.

    """
    first = _shape(paths[0]) if not size else (size, size)
    channels = COLOURS[colour][1]
    problems = size_problem(options.file, f"{options.key}.path", len(paths) * channels * first[0] * first[1])
    if problems:
        raise UserError(problems)
    out = np.empty((len(paths), channels, *first), dtype=np.uint8)
    for one, path in enumerate(paths):
        try:
            out[one] = _pixels(path, colour, size, first)
        except UserError as error:
            problems += error.problems
        if len(problems) >= MOST_REPORTED:
            break
    if problems:
        raise UserError(problems)
    return out


def _shape(path: Path) -> tuple[int, int]:
    with _opened(path) as picture:
        return int(picture.height), int(picture.width)


def _opened(path: Path) -> Any:
    """Open a picture of 8-bit pixels whose size is sound; nothing is decoded yet."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(path, formats=FORMATS)
    except (*_BROKEN, Image.DecompressionBombError) as error:
        raise _refused(path, f"cannot be read: {error}", f"a picture ({', '.join(FORMATS)})") from None
    if picture.width * picture.height > MOST_PIXELS:
        picture.close()
        raise _refused(path, f"{picture.width} x {picture.height} pixels", f"at most {MOST_PIXELS} pixels")
    if picture.mode not in _EIGHT_BITS:
        picture.close()
        raise _refused(path, f"pixels of mode {picture.mode}", "8 bits per channel: convert the picture")
    return picture


def _pixels(path: Path, colour: str, size: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    from PIL import Image

    with _opened(path) as picture:
        if not size and (picture.height, picture.width) != shape:
            found = f"{picture.width} x {picture.height} pixels"
            raise _refused(path, found, f"{shape[1]} x {shape[0]} as the first picture, or say size = N")
        try:
            image = picture.convert(COLOURS[colour][0])
            if size and image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BILINEAR, box=_middle(image.size))
            pixels = np.asarray(image, dtype=np.uint8)
        except _BROKEN as error:
            raise _refused(path, f"cannot be decoded: {error}", "a picture that is whole") from None
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _middle(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the largest square in the middle of a picture (width, height), as left, top, right, bottom."""
    side = min(size)
    left, top = (size[0] - side) / 2, (size[1] - side) / 2
    return left, top, left + side, top + side


def _refused(path: Path, found: str, allowed: str) -> UserError:
    return UserError(Problem(str(path), "", found, allowed))
