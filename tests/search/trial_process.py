"""A process of its own that works on a shared study, for tests that kill it.

``python -m tests.search.trial_process STORAGE FOLDER WHAT``: ``hold`` claims two runs and waits to be killed;
``recover`` takes up what was lost, finishes it, and prints how many runs that were.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from dse.search.trials import Trials, open_storage

CHOICES = {"cut": (1, 2), "head": ("ncm", "sgd")}
DECIDED = {"cut": 1, "head": "sgd"}


def main(storage: str, folder: str, what: str) -> None:
    trials = Trials(open_storage(storage, Path(folder)), "study", CHOICES)
    if what == "hold":
        first = trials.claim("a", 0, DECIDED, "start")
        assert first is not None
        trials.finish(first, 0.5, {"x": 1})
        trials.claim("b", 0, DECIDED, "start")
        trials.claim("c", 0, DECIDED, "start")
        sys.stdout.write("holding\n")
        sys.stdout.flush()
        time.sleep(60)
    claims = trials.recover()
    for claim in claims:
        trials.finish(claim, 0.25, {"by": what})
    sys.stdout.write(f"{len(claims)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
