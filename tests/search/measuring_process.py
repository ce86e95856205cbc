"""A process that searches a shared study: ``python -m tests.search.measuring_process FOLDER``.

Prints, as JSON, which runs it did and how many it knows of at the end.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from dse.search import candidates_of, explore_measured
from dse.search.measured import Reached, Request
from dse.search.trials import open_storage
from tests.search.measuring import Training, space


class Slow(Training):
    """Takes its time, so that the other process gets its share."""

    def __call__(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reached | str]]:
        for answer in super().__call__(requests):
            time.sleep(0.3)
            yield answer


def main(folder: str) -> None:
    wanted, train = space(measure={"runs": 20}), Slow()
    found = explore_measured(wanted, candidates_of(wanted), train, open_storage("journal", Path(folder)))
    assert found.measurement is not None
    said = {"asked": train.runs, "finished": len(found.measurement.finished)}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
