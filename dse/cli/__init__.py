"""The command line: parse, call, show. The only place that prints or ends the process.

Exit codes: 0 done; 1 the answer is "nothing fits", or a stated bound is missed; 2 the input is wrong; 70 the
program failed; 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Final

import typer

from dse.cli import (
    arena,
    bench,
    boards,
    calibrate,
    catalogue,
    certificate,
    contribute,
    explore,
    model,
    plans,
    reproduce,
    segments,
    select,
    study,
    validate,
)
from dse.errors import NothingFits, UserError

INTERRUPTED: Final = 130
CRASHED: Final = 70  # EX_SOFTWARE

# Plain help: loading and drawing boxes would take longer than everything else that --help does.
app = typer.Typer(
    name="dse",
    help="Design-space exploration for on-device continual learning on microcontrollers: accuracy, memory "
    "and energy of a learning event, before any code runs on the chip.",
    epilog="Exit codes: 0 done, 1 nothing fits or a bound is missed, 2 wrong input, 130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.command("explore")(explore.explore)
app.command("sweep")(explore.sweep)
app.command("estimate")(plans.estimate)
app.command("explain")(plans.explain)
app.command("reproduce")(reproduce.reproduce)
app.command("plan")(certificate.plan)
app.command("certify")(certificate.certify)
app.command("contribute")(contribute.contribute)
app.command("select")(select.select)
app.command("checkpoints")(segments.checkpoints)
app.command("arena")(arena.arena)
app.command("study")(study.study)
app.command("validate")(validate.validate)
app.command("networks")(catalogue.networks)
catalogue.boards.command("new")(boards.new)
catalogue.boards.command("diff")(boards.diff)
catalogue.boards.command("compare")(boards.compare)
catalogue.boards.command("calibrate")(calibrate.calibrate)
catalogue.boards.command("bench")(bench.bench)
app.add_typer(model.models, name="model")
app.add_typer(catalogue.boards, name="hw")


def _version(wanted: bool) -> None:
    if wanted:
        from dse import __version__

        print(f"dse {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Receive the options of the program itself."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    try:
        code = app(
            args=None if arguments is None else list(arguments), prog_name="dse", standalone_mode=False
        )
        sys.stdout.flush()
    except UserError as error:
        print(_plain(error), file=sys.stderr)
        return 2
    except NothingFits as error:
        print(_plain(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError as error:  # a path that the system refuses, a full disk
        print(_plain(f"{error.filename or 'input'}: {error.strerror or error}"), file=sys.stderr)
        return 2
    except Exception as error:
        if not hasattr(error, "exit_code") or not hasattr(error, "show"):
            return _crashed(error)
        error.show()  # a wrong option or argument
        return int(error.exit_code)
    if code == INTERRUPTED:
        print("interrupted; nothing half-written is left", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _plain(said: object) -> str:
    """Return a message without what a terminal obeys: names of files are not always one's own."""
    return "".join(letter if letter == "\n" or letter.isprintable() else "_" for letter in str(said))


def _crashed(error: Exception) -> int:
    """Say that the program failed, not the input; 1 stays the answer "nothing fits"."""
    if os.environ.get("DSE_DEBUG") == "1":
        traceback.print_exception(error)
        return CRASHED
    print(_plain(f"internal error: {type(error).__name__}: {error}"), file=sys.stderr)
    print("please report it; DSE_DEBUG=1 shows where it happened", file=sys.stderr)
    return CRASHED


def _terminate(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line of this process and exit with its code."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `dse hw list | head` ends without complaint
    signal.signal(signal.SIGTERM, _terminate)  # leave nothing behind, as after Ctrl-C
    sys.exit(run())
