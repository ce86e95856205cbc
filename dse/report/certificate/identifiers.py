"""C identifiers from names of any kind: valid, unique, and the same for the same names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable


def c_identifiers(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Return ``names`` as upper-case C identifiers behind ``prefix``; those that coincide get a number.

    The prefix keeps a digit from coming first, and keywords and the library's names away.

    >>> c_identifiers(["conv1 (mask)", "conv1/mask", "2"], "BUF_")
    {'conv1 (mask)': 'BUF_CONV1_MASK', 'conv1/mask': 'BUF_CONV1_MASK_2', '2': 'BUF_2'}
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        stem = prefix + letters(name)
        identifier, number = stem, 2
        while identifier in taken:
            identifier, number = f"{stem}_{number}", number + 1
        taken.add(identifier)
        found[name] = identifier
    return found


def letters(name: str) -> str:
    """Return ``name`` as the inside of an upper-case C identifier.

    >>> letters("resnet8@width=0.5")
    'RESNET8_WIDTH_0_5'
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Z0-9]+", "_", plain.upper()).strip("_") or "X"


def comment(text: str) -> str:
    """Return ``text`` as one that may stand in a C comment: ASCII, on one line, which ends and opens none.

    >>> comment("a */ b")
    'a * / b'
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "replace").decode()
    plain = " ".join(re.sub(r"[^\x20-\x7e]", " ", plain).split())
    while "*/" in plain or "/*" in plain:
        plain = plain.replace("*/", "* /").replace("/*", "/ *")
    return plain.replace("??", "? ?").replace("\\", "/")
