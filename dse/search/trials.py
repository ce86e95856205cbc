"""Training runs as trials of an Optuna study: kept in a storage, shared by processes, each run done once.

A run is a learning key with a seed. Of several trials with the same run, the one of the lowest number that
has not failed owns it; the storage orders trials, so that processes need to agree on nothing else. A trial
that a killed process left running is failed (one process succeeds in that) and its run is taken up again.
"""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from dse.errors import Problem, UserError

if TYPE_CHECKING:
    from optuna.distributions import CategoricalDistribution
    from optuna.storages import BaseStorage
    from optuna.storages.journal import JournalFileSymlinkLock
    from optuna.trial import FrozenTrial, Trial

MEMORY: Final = "memory"
JOURNAL: Final = "journal"
JOURNAL_FILE: Final = "trials.journal"
"""Name of the journal in a run folder."""

ELSEWHERE_S: Final = 6 * 3600.0
"""A run of another machine that has been going on for longer than this is taken for lost."""

GRACE_S: Final = 5
"""The lock of a journal, held for milliseconds, is taken from a process that has held it for so long."""

POPULATION: Final = 10
"""Trials of a generation of NSGA-II: a few for a budget of tens of runs."""

WORST: Final = 1e30
"""Value of a trial that names no key."""

MOST_LOSSES: Final = 3
"""A run that was lost this often, perhaps because it takes its process along, is not taken up again."""


class Finished(NamedTuple):
    """A run that was completed: the number of its trial, what was run and why, and what it reached."""

    number: int
    key: str
    seed: int
    phase: str
    accuracy: float
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Claim:
    """A run that this process owns, as trial ``number`` of the study."""

    number: int
    key: str
    seed: int


def open_storage(storage: str, folder: Path | None) -> BaseStorage:
    """Return the storage ``storage``: "memory", "journal" (a file in ``folder``), or the URL of a database.

    Raises UserError where it cannot be opened.
    """
    from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend, JournalRedisBackend

    try:
        if storage == MEMORY:
            return InMemoryStorage()
        if storage == JOURNAL and folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            mend_journal(folder / JOURNAL_FILE)
            path = folder / JOURNAL_FILE
            return JournalStorage(JournalFileBackend(str(path), _lock(path)))
        if storage.startswith(("redis://", "rediss://")):
            return JournalStorage(JournalRedisBackend(storage))
        if "://" in storage:
            return RDBStorage(storage)
    except Exception as error:  # whatever the driver of a database raises
        raise _unusable(storage, folder, error) from None
    allowed = f"{MEMORY!r}, {JOURNAL!r} (with a run folder), or a URL such as sqlite:///trials.db"
    raise UserError(Problem("option", "storage", repr(storage), allowed))


def _unusable(storage: str, folder: Path | None, error: Exception) -> UserError:
    where = str(folder / JOURNAL_FILE) if storage == JOURNAL and folder is not None else storage
    lines = str(error).splitlines() or [""]
    allowed = "a storage that Optuna can open; delete a damaged journal to begin anew"
    return UserError(Problem(where, "", f"cannot be opened: {type(error).__name__}: {lines[0]}", allowed))


def mend_journal(path: Path) -> None:
    """Cut off the unfinished last line that a killed process left; others would write on behind it."""
    if not path.exists() or path.stat().st_size == 0 or _ends_with_line(path):
        return
    lock = _lock(path)
    lock.acquire()
    try:
        with path.open("rb+") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


def _lock(path: Path) -> JournalFileSymlinkLock:
    from optuna.storages.journal import JournalFileSymlinkLock

    return JournalFileSymlinkLock(str(path), grace_period=GRACE_S)


def _ends_with_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


class Trials:
    """The runs of one study; a context that gives back the runs that this process has not finished."""

    def __init__(
        self, storage: BaseStorage, name: str, choices: Mapping[str, Sequence[Any]], most: int | None = None
    ) -> None:
        """Open the study ``name`` in ``storage``, or make it.

        ``choices`` holds every value of every decision that tells keys apart; ``most`` is the number of runs
        that all processes together may do, None for any.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.storage, self.most = storage, most
        try:
            optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
            self.study = storage.get_study_id_from_name(name)
        except Exception as error:
            raise _unusable(name, None, error) from None
        self.owner = f"{platform.node()}:{os.getpid()}:{_started(os.getpid())}:{secrets.token_hex(4)}"
        self.open: dict[int, Claim] = {}
        self._distributions = _distributions(choices)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for claim in list(self.open.values()):
            self.give_back(claim)

    def _all(self) -> list[FrozenTrial]:
        trials = self.storage.get_all_trials(self.study, deepcopy=False)
        return [trial for trial in trials if {"key", "seed"} <= trial.user_attrs.keys()]

    def finished(self) -> list[Finished]:
        """Return all completed runs, of any process, by trial number; a run counts once."""
        from optuna.trial import TrialState

        found: dict[tuple[str, int], Finished] = {}
        for trial in self._all():
            attributes = trial.user_attrs
            if trial.state == TrialState.COMPLETE and "record" in attributes and trial.values:
                run = (str(attributes["key"]), int(attributes["seed"]))
                phase, record = str(attributes.get("phase", "")), attributes["record"]
                entry = Finished(trial.number, *run, phase, float(trial.values[0]), record)
                found.setdefault(run, entry)
        return list(found.values())

    def running(self) -> list[tuple[str, int]]:
        """Return the runs (key, seed) that some process has begun and not finished."""
        from optuna.trial import TrialState

        return [_run(trial) for trial in self._all() if trial.state == TrialState.RUNNING]

    def running_beside(self) -> bool:
        """Return whether a living process of this machine has a run under way."""
        from optuna.trial import TrialState

        beside = (trial for trial in self._all() if trial.state == TrialState.RUNNING)
        return any(_is_here(trial.user_attrs) and not _is_dead(trial.user_attrs) for trial in beside)

    def failures(self) -> dict[str, str]:
        """Return the keys that could not be run, with the reason."""
        trials = self._all()
        found = {
            _run(trial)[0]: str(trial.user_attrs["error"]) for trial in trials if "error" in trial.user_attrs
        }
        for (key, _), count in _losses(trials).items():
            if count >= MOST_LOSSES:
                found.setdefault(key, f"its process ended {count} times before it was done")
        return found

    def claim(self, key: str, seed: int, decisions: Mapping[str, Any], phase: str) -> Claim | None:
        """Begin the run (key, seed) as a new trial; None where another trial owns it or none is left."""
        from optuna.trial import TrialState, create_trial

        if self._why_not(self._all(), key, seed):
            return None
        template = create_trial(
            state=TrialState.RUNNING,
            params={name: decisions[name] for name in self._distributions},
            distributions=dict(self._distributions),
            user_attrs={"key": key, "seed": seed, "phase": phase, "owner": self.owner, "began": time.time()},
        )
        trial = self.storage.create_new_trial(self.study, template)
        number = self.storage.get_trial_number_from_id(trial)
        # Others may have begun runs since: whoever has the lower number keeps what there is.
        before = [other for other in self._all() if other.number < number]
        if refused := self._why_not(before, key, seed):
            self._fail(number, *refused)
            return None
        self.open[number] = Claim(number, key, seed)
        return self.open[number]

    def _why_not(self, trials: Sequence[FrozenTrial], key: str, seed: int) -> tuple[str, str] | None:
        """Return the mark and the reason why (key, seed) cannot follow ``trials``; None where it can."""
        from optuna.trial import TrialState

        kept = {_run(trial) for trial in trials if trial.state != TrialState.FAIL}
        if (key, seed) in kept:
            return "duplicate", "another trial owns this run"
        if self.most is not None and len(kept) >= self.most:
            return "over_budget", f"{self.most} runs were begun before"
        return None

    def finish(self, claim: Claim, accuracy: float, record: Mapping[str, Any]) -> None:
        """Complete a run: from here on it counts, with its whole record."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        self.open.pop(claim.number, None)
        trial = self.storage.get_trial_id_from_study_id_trial_number(self.study, claim.number)
        try:
            self.storage.set_trial_user_attr(trial, "record", dict(record))
            self.storage.set_trial_state_values(trial, TrialState.COMPLETE, [accuracy])
        except UpdateFinishedTrialError:
            return  # taken for dead, and taken over

    def give_back(self, claim: Claim) -> None:
        """End a run that was not done; whoever comes next takes it up."""
        self._fail(claim.number, "lost", "interrupted")

    def fail(self, claim: Claim, reason: str) -> None:
        """End a run that cannot be done; it is not tried again."""
        self._fail(claim.number, "error", reason)

    def _fail(self, number: int, mark: str, reason: str) -> None:
        """Fail a trial, unless another process was faster."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        self.open.pop(number, None)
        trial = self.storage.get_trial_id_from_study_id_trial_number(self.study, number)
        try:
            self.storage.set_trial_user_attr(trial, mark, reason)
            self.storage.set_trial_state_values(trial, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return

    def recover(self) -> list[Claim]:
        """Take up every run that was lost with its process and that no other trial has."""
        from optuna.trial import TrialState

        for trial in self._all():
            if trial.state == TrialState.RUNNING and _is_dead(trial.user_attrs):
                self._fail(trial.number, "lost", "its process ended")
        trials = self._all()
        kept = {_run(trial) for trial in trials if trial.state != TrialState.FAIL}
        broken = self.failures()
        claims = []
        for run in _losses(trials):
            if run not in kept and run[0] not in broken:
                last = next(trial for trial in reversed(trials) if _run(trial) == run)
                claims.append(self.claim(*run, last.params, str(last.user_attrs.get("phase", ""))))
        return [claim for claim in claims if claim is not None]


class Evolution:
    """NSGA-II over the decisions of keys, in memory: a baseline for what is run next."""

    def __init__(self, choices: Mapping[str, Sequence[Any]], objectives: int, seed: int) -> None:
        """Begin with no trials; all ``objectives`` are minimised."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
        self._study = optuna.create_study(directions=["minimize"] * objectives, sampler=sampler)
        self._distributions = _distributions(choices)
        self._objectives = objectives

    def learn(self, decided: Mapping[str, Any], values: Sequence[float]) -> None:
        """Take in what was run before."""
        self._study.enqueue_trial({name: decided[name] for name in self._distributions})
        self.tell(self._study.ask(dict(self._distributions)), values)

    def ask(self) -> tuple[Trial, dict[str, Any]]:
        """Return a trial and what it decides."""
        trial = self._study.ask(dict(self._distributions))
        return trial, dict(trial.params)

    def tell(self, trial: Trial, values: Sequence[float] | None) -> None:
        """Say what a trial came to; None where there is no such key."""
        trial.set_constraint("possible", 0.0 if values else 1.0)
        self._study.tell(trial, list(values) if values else [WORST] * self._objectives)


def _distributions(choices: Mapping[str, Sequence[Any]]) -> dict[str, CategoricalDistribution]:
    from optuna.distributions import CategoricalDistribution

    return {name: CategoricalDistribution(tuple(values)) for name, values in choices.items()}


def _run(trial: FrozenTrial) -> tuple[str, int]:
    return str(trial.user_attrs["key"]), int(trial.user_attrs["seed"])


def _losses(trials: Sequence[FrozenTrial]) -> dict[tuple[str, int], int]:
    """How often each run was lost with its process."""
    counts: dict[tuple[str, int], int] = {}
    for trial in trials:
        if "lost" in trial.user_attrs:
            counts[_run(trial)] = counts.get(_run(trial), 0) + 1
    return counts


def _is_here(attributes: Mapping[str, Any]) -> bool:
    return str(attributes.get("owner", "")).split(":")[0] == platform.node()


def _is_dead(attributes: Mapping[str, Any]) -> bool:
    """Return whether the process that owns a running trial is known, or by now sure, not to run any more."""
    host, process, started = (*str(attributes.get("owner", "")).split(":"), "", "", "")[:3]
    if host != platform.node() or not process.isdecimal():
        return time.time() - float(attributes.get("began", 0.0)) > ELSEWHERE_S
    if os.name != "posix":
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False  # it exists, but is somebody else's
    return bool(started) and _started(int(process)) != started


def _started(process: int) -> str:
    """Return when a process began, in ticks since the machine did; empty where the system does not say.

    Process numbers are used again, the pair is not.
    """
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]
