"""The command line with runs that train nothing: ``python -m tests.validation.fake_command validate ...``."""

from __future__ import annotations

from functools import partial

from dse.api import validation
from dse.validation.validate import run_validation
from tests.validation import fake_runs


def pretend() -> None:
    """Let validation use fake runs, and data that fit MobileNet-V1."""
    validation.run_validation = partial(run_validation, run=fake_runs.run)  # type: ignore[assignment]
    validation.load_data = lambda *_, **__: fake_runs.dataset()  # type: ignore[assignment]


if __name__ == "__main__":
    from dse.cli import main

    pretend()
    main()
