"""How large a model file and what it claims may be, and how its bytes and names are taken in.

Model files are untrusted: every importer reads through here before it believes anything.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Container
from pathlib import Path
from typing import Final

from dse.errors import Problem, UserError

MOST_FILE_BYTES: Final = 2**27
"""128 MiB: four times the largest flash that is attached to a microcontroller."""

MOST_NODES: Final = 20_000
MOST_VALUES: Final = 2**26
"""Numbers of all constants together; as float32 they take 256 MiB."""

MOST_ELEMENTS: Final = 2**40
"""Elements of one tensor; what is larger is a slip or an attack."""

MOST_AXES: Final = 8
LONGEST_NAME: Final = 200


def file_bytes(
    path: Path, most: int = MOST_FILE_BYTES, rule: str = "a model for a microcontroller is smaller"
) -> bytes:
    """Return the bytes of a file of ``most`` at most; raises UserError for more, or if it cannot be read."""
    try:
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a path that no system takes
        reason = getattr(error, "strerror", None) or error
        raise UserError(Problem(str(path), "", f"cannot be read: {reason}", "")) from None
    if len(data) > most:
        raise UserError(Problem(str(path), "", f"larger than {most // 2**20} MiB", rule))
    return data


def clean_name(text: str, taken: Container[str] = ()) -> str:
    r"""Return ``text`` without control characters, of bounded length, and unlike every name in ``taken``.

    Names reach terminals and files, so that escape sequences and line ends in them must not survive.

    >>> clean_name("conv\x1b[2J\n1"), clean_name("a", {"a"})
    ('conv_[2J_1', 'a~2')
    """
    kept = "".join("_" if unicodedata.category(sign)[0] == "C" else sign for sign in text[:LONGEST_NAME])
    name, number = kept.strip() or "unnamed", 2
    while name in taken:
        name, number = f"{kept.strip() or 'unnamed'}~{number}", number + 1
    return name
