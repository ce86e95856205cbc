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


def file_bytes(path: Path) -> bytes:
    """Return the bytes of a model file; raises UserError where it cannot be read or is too large."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path that no system takes
        reason = getattr(error, "strerror", None) or error
        raise UserError(Problem(str(path), "", f"cannot be read: {reason}", "")) from None
    if len(data) > MOST_FILE_BYTES:
        found = f"larger than {MOST_FILE_BYTES // 2**20} MiB"
        raise UserError(Problem(str(path), "", found, "a model for a microcontroller is smaller"))
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
