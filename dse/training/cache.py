"""Where what is expensive and reproducible is kept between runs: pretrained parameters, downloads."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(part: str = "") -> Path:
    """Return the folder of ``part``, made if needed: under DSE_CACHE, else in the user's cache folder."""
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    base = Path(os.environ.get("DSE_CACHE") or users / "dse")
    folder = base / part if part else base
    folder.mkdir(parents=True, exist_ok=True)
    return folder
