"""A space as a TOML file: so that one which was made from options can be read, edited and explored again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def space_text(tables: Mapping[str, Any], comments: tuple[str, ...] = ()) -> str:
    """Write the tables of a space: plain keys first, then one section per table."""
    plain = {key: value for key, value in tables.items() if not isinstance(value, Mapping)}
    lines = [f"# {comment}" for comment in comments] + [""] * bool(comments)
    lines += [f"{_key(key)} = {_value(value)}" for key, value in plain.items()]
    for key, table in tables.items():
        if isinstance(table, Mapping):
            lines += ["", *_section(_key(key), table)]
    return "\n".join(lines) + "\n"


def _section(name: str, table: Mapping[str, Any]) -> Iterator[str]:
    yield f"[{name}]"
    yield from (f"{_key(key)} = {_value(value)}" for key, value in table.items() if value is not None)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _text(value) if isinstance(value, str) else repr(value)


def _text(value: str) -> str:
    """Write a basic string; JSON escapes the same characters as TOML, but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
