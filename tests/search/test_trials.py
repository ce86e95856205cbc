"""Runs as trials: each done once, whoever shares the study, and whatever is killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dse.errors import UserError
from dse.search import trials as module
from dse.search.trials import JOURNAL_FILE, MOST_LOSSES, Evolution, Trials, mend_journal, open_storage
from tests.search.trial_process import CHOICES, DECIDED

Open = Callable[[], Trials]
ROOT = Path(__file__).resolve().parents[2]


def urls(folder: Path) -> dict[str, str]:
    return {"memory": "memory", "journal": "journal", "database": f"sqlite:///{folder}/trials.db"}


@pytest.fixture(params=["memory", "journal", "database"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Open the same study as often as one likes, as other processes would (in memory there is only one)."""
    name = urls(tmp_path)[request.param]
    memory = open_storage("memory", None)
    return lambda: Trials(memory if name == "memory" else open_storage(name, tmp_path), "study", CHOICES)


@pytest.fixture(params=["journal", "database"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return urls(tmp_path)[request.param]


def test_a_run_counts_when_it_is_finished_with_its_record(shared: Open) -> None:
    trials = shared()
    claim = trials.claim("a", 0, DECIDED, "start")
    assert claim is not None
    assert trials.finished() == []
    assert trials.running() == [("a", 0)]
    trials.finish(claim, 0.75, {"forgetting": None, "matrix": [[0.5]]})
    (found,) = shared().finished()
    assert found == (0, "a", 0, "start", 0.75, {"forgetting": None, "matrix": [[0.5]]})
    assert trials.running() == []


@pytest.mark.parametrize(("same", "mark"), [(True, "duplicate"), (False, "over_budget")])
def test_of_two_that_claim_at_once_the_first_trial_counts(
    same: bool, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process begins the last run between the look and the trial."""
    opened = open_storage("memory", None)
    one, other = (Trials(opened, "study", CHOICES, 2) for _ in range(2))
    assert one.claim("a", 0, DECIDED, "start") is not None
    create, beside = opened.create_new_trial, []

    def late(*arguments: Any) -> int:
        monkeypatch.setattr(opened, "create_new_trial", create)
        beside.append(other.claim("b", 0 if same else 1, DECIDED, "start"))
        return create(*arguments)

    monkeypatch.setattr(opened, "create_new_trial", late)
    assert one.claim("b", 0, DECIDED, "start") is None
    assert beside[0] is not None
    assert one.running() == [("a", 0), ("b", 0 if same else 1)]
    assert mark in opened.get_all_trials(one.study)[-1].user_attrs
    assert one.failures() == {}
    assert other.claim("c", 0, DECIDED, "start") is None
    other.fail(beside[0], "it cannot be")
    assert one.claim("c", 0, DECIDED, "start") is not None


def test_a_run_that_somebody_owns_cannot_be_begun_again(shared: Open) -> None:
    one, other = shared(), shared()
    claim = one.claim("a", 0, DECIDED, "start")
    assert claim is not None
    assert other.claim("a", 0, DECIDED, "start") is None
    assert other.claim("a", 1, DECIDED, "start") is not None
    one.finish(claim, 0.5, {})
    assert other.claim("a", 0, DECIDED, "start") is None
    assert [(run.key, run.seed) for run in other.finished()] == [("a", 0)]


def test_leaving_gives_back_what_is_not_finished_and_it_is_taken_up_once(shared: Open) -> None:
    with shared() as first:
        assert first.claim("a", 0, DECIDED, "explore") is not None
    second, third = shared(), shared()
    (claim,) = second.recover()
    assert (claim.key, claim.seed) == ("a", 0)
    assert second.recover() == third.recover() == []
    second.finish(claim, 0.5, {})
    assert [(run.key, run.phase) for run in third.finished()] == [("a", "explore")]


def test_what_failed_is_not_tried_again(shared: Open) -> None:
    trials = shared()
    claim = trials.claim("a", 0, DECIDED, "start")
    assert claim is not None
    trials.fail(claim, "too few samples")
    assert shared().failures() == {"a": "too few samples"}
    assert shared().recover() == []
    assert trials.running() == trials.finished() == []


def test_a_run_that_takes_its_process_along_is_given_up(shared: Open) -> None:
    with shared() as trials:
        trials.claim("a", 0, DECIDED, "start")
    for _ in range(MOST_LOSSES - 1):
        with shared() as trials:
            assert len(trials.recover()) == 1
    assert shared().recover() == []
    assert shared().failures() == {"a": f"its process ended {MOST_LOSSES} times before it was done"}


def test_a_result_that_comes_too_late_is_dropped(shared: Open) -> None:
    slow, fast = shared(), shared()
    claim = slow.claim("a", 0, DECIDED, "start")
    assert claim is not None
    fast._fail(claim.number, "lost", "taken for dead")
    (again,) = fast.recover()
    slow.finish(claim, 0.9, {"late": True})
    fast.finish(again, 0.5, {"late": False})
    assert [run.record for run in shared().finished()] == [{"late": False}]


def test_studies_of_one_storage_do_not_mix(tmp_path: Path) -> None:
    opened = open_storage("journal", tmp_path)
    one, other = Trials(opened, "one", CHOICES), Trials(opened, "other", CHOICES)
    claim = one.claim("a", 0, DECIDED, "start")
    assert claim is not None
    one.finish(claim, 0.5, {})
    assert other.finished() == []


# --- killed processes ---


def process(storage: str, folder: Path, what: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.search.trial_process", storage, str(folder), what]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def killed(storage: str, folder: Path) -> None:
    """Let a process begin two runs, and kill it."""
    holder = process(storage, folder, "hold")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holding\n", holder.stderr and holder.stderr.read()
    holder.kill()
    holder.communicate()


def test_what_a_killed_process_began_is_taken_up_once(storage: str, tmp_path: Path) -> None:
    killed(storage, tmp_path)
    others = [process(storage, tmp_path, "recover") for _ in range(3)]
    answers = [other.communicate(timeout=60) for other in others]
    assert sorted(int(out) for out, _ in answers)[-1] > 0, answers
    assert sum(int(out) for out, _ in answers) == 2, answers
    found = Trials(open_storage(storage, tmp_path), "study", CHOICES).finished()
    assert sorted((run.key, run.accuracy) for run in found) == [("a", 0.5), ("b", 0.25), ("c", 0.25)]


def test_runs_of_living_processes_stay_theirs(storage: str, tmp_path: Path) -> None:
    holder = process(storage, tmp_path, "hold")
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        trials = Trials(open_storage(storage, tmp_path), "study", CHOICES)
        assert trials.recover() == []
        assert trials.running_beside()
        assert sorted(trials.running()) == [("b", 0), ("c", 0)]
    finally:
        holder.kill()
        holder.communicate()
    assert not trials.running_beside()
    assert len(trials.recover()) == 2


def test_runs_of_other_machines_are_theirs_for_some_hours(
    shared: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.platform, "node", lambda: "elsewhere")
    shared().claim("a", 0, DECIDED, "start")
    monkeypatch.undo()
    assert shared().recover() == []
    assert not shared().running_beside()
    later = time.time() + module.ELSEWHERE_S + 60
    monkeypatch.setattr(module.time, "time", lambda: later)
    assert len(shared().recover()) == 1


def test_a_process_number_that_is_used_again_is_another_process() -> None:
    here = {"owner": f"{module.platform.node()}:{module.os.getpid()}:1:x", "began": time.time()}
    assert module._is_dead(here) == bool(module._started(module.os.getpid()))
    here["owner"] = here["owner"].replace(":1:", f":{module._started(module.os.getpid())}:")
    assert not module._is_dead(here)


# --- storages ---


def test_a_line_that_was_cut_off_is_mended(tmp_path: Path) -> None:
    trials = Trials(open_storage("journal", tmp_path), "study", CHOICES)
    claim = trials.claim("a", 0, DECIDED, "start")
    assert claim is not None
    trials.finish(claim, 0.5, {})
    journal = tmp_path / JOURNAL_FILE
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"worker')
    again = Trials(open_storage("journal", tmp_path), "study", CHOICES)
    assert journal.read_bytes().startswith(whole + b'{"op_code":0')
    assert len(again.finished()) == 1
    assert again.claim("b", 0, DECIDED, "start") is not None
    assert all(json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines())


def test_mending_leaves_whole_and_missing_journals_alone(tmp_path: Path) -> None:
    mend_journal(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    (tmp_path / "whole").write_bytes(b"{}\n")
    mend_journal(tmp_path / "whole")
    assert (tmp_path / "whole").read_bytes() == b"{}\n"


@pytest.mark.parametrize("content", [b"hello\nworld\n", b'{"op_code": 99}\n', b"\xff\xfe\n{}\n"])
def test_a_file_that_is_no_journal_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / JOURNAL_FILE).write_bytes(content)
    with pytest.raises(UserError, match="delete a damaged journal"):
        Trials(open_storage("journal", tmp_path), "study", CHOICES)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("jurnal", "'jurnal'; 'memory', 'journal'"),
        ("journal", "with a run folder"),
        ("sqlite:////no/such/folder/x.db", "cannot be opened"),
        ("nosuch://host/x", "cannot be opened"),
        ("", "'memory', 'journal'"),
    ],
)
def test_storages_that_cannot_be_opened(name: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        open_storage(name, None)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


# --- NSGA-II ---


def test_evolution_breeds_from_what_is_good() -> None:
    """One decision of two matters: later proposals have it more often than chance."""
    values: dict[str, tuple[Any, ...]] = {"cut": tuple(range(10)), "n_replays": tuple(range(10))}
    brain = Evolution(values, 1, seed=1)
    late = []
    for number in range(80):
        trial, bred = brain.ask()
        late += [bred["cut"]] if number >= 60 else []
        brain.tell(trial, [abs(bred["cut"] - 7)])
    assert sum(abs(cut - 7) <= 1 for cut in late) > 9


def test_evolution_learns_what_was_run_before_and_shuns_what_is_impossible() -> None:
    values = dict.fromkeys(("cut", "epochs", "n_replays", "replay_bits"), (1, 2, 3))
    bred = []
    for seed in range(4):
        brain = Evolution(values, 2, seed)
        for number in range(12):
            brain.learn(dict.fromkeys(values, 1 + number % 3) | {"cut": 2}, [0.0, 0.0])
        for _ in range(30):
            trial, decided = brain.ask()
            bred.append(decided["cut"])
            brain.tell(trial, [1.0, 1.0] if decided["cut"] == 2 else None)
    assert bred.count(2) > len(bred) / 2  # a third by chance
