"""The bibliography behind the numbers: a reader for the part of BibTeX that references.bib uses."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_ENTRY = re.compile(r"^@\w+\{\s*(?P<key>[^,\s]+)\s*,(?P<body>.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\s*(?P<name>\w+)\s*=\s*[{\"](?P<text>.*?)[}\"]\s*,?\s*$", re.MULTILINE | re.DOTALL)
_ORDER = ("author", "title", "booktitle", "journal", "howpublished", "eprint", "year", "url", "note")


@cache
def shipped_sources() -> dict[str, str]:
    """Return source key -> text for hwprofiles/references.bib."""
    return parse_bibliography(files("hwprofiles").joinpath("references.bib").read_text(encoding="utf-8"))


def parse_bibliography(text: str) -> dict[str, str]:
    """Return source key -> "author. title. ..." for every entry of a BibTeX text.

    Entries start with ``@`` and end with ``}`` in the first column; fields stand on lines of their own.
    """
    return {entry["key"]: _sentence(entry["body"]) for entry in _ENTRY.finditer(text)}


def _sentence(body: str) -> str:
    fields = {field["name"]: " ".join(field["text"].split()) for field in _FIELD.finditer(body)}
    parts = [_named(name, fields[name]) for name in _ORDER if fields.get(name)]
    return ". ".join(part.replace("{", "").replace("}", "").rstrip(".") for part in parts)


def _named(name: str, text: str) -> str:
    return f"arXiv:{text}" if name == "eprint" else text
