"""Sets measurements on a board: networks, libraries, clocks and operating points found, physics held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dse.calibrate.measurement import Measurement
from dse.calibrate.physics import clock_problems, power_problems, time_problems
from dse.calibrate.response import (
    Response,
    Setting,
    cost_of,
    joined,
    kernel_response,
    network_response,
    priced_entries,
)
from dse.errors import DseError, Problem, UserError, allowed_names
from dse.hardware import HardwareProfile, OperatingPoint
from dse.workload import Workload, load_network

CLOCK_TOLERANCE: Final = 0.01


@dataclass(frozen=True)
class Row:
    """A measurement on the board: how long it took, by what it is priced, and at which operating point.

    ``seconds`` is None where only power was measured; ``prior_s`` is what the profile says.
    """

    measurement: Measurement
    setting: Setting
    response: Response
    point: str
    seconds: float | None
    prior_s: float

    @property
    def macs(self) -> float:
        """MACs of everything that ran."""
        return float(self.response.macs.sum())

    @property
    def trains(self) -> bool:
        """Whether it draws training power: everything but int8 inference does."""
        return self.measurement.passes != ("fwd",) or self.measurement.dtype != "int8"

    @property
    def power_w(self) -> float | None:
        """Power [W], as measured, or energy over time; attached parts included."""
        row = self.measurement
        if row.power_w is not None:
            return row.power_w
        return None if row.energy_j is None or self.seconds is None else row.energy_j / self.seconds

    @property
    def key(self) -> tuple[object, ...]:
        """What two rows share that are repeats of each other."""
        row, set_ = self.measurement, self.setting
        return (
            row.network, row.layer, row.operator, row.macs, row.elements, row.calls, row.passes, row.dtype,
            set_.library, set_.cores, set_.clock_hz,
        )  # fmt: skip


@dataclass
class Resolver:
    """Resolves rows against one board; networks and responses are computed once."""

    board: HardwareProfile
    networks: dict[str, Workload | UserError] = field(default_factory=dict)
    responses: dict[tuple[object, ...], Response] = field(default_factory=dict)

    def resolve(self, rows: Sequence[Measurement]) -> tuple[list[Row], list[Problem], list[Problem]]:
        """Return the rows that have a price, what is wrong with others, and what contradicts physics."""
        found: list[Row] = []
        wrong: list[Problem] = []
        implausible: list[Problem] = []
        for measurement in rows:
            row, problems = self.row(measurement)
            wrong += problems
            if row is not None:
                found.append(row)
                implausible += self._physics(row)
        return found, wrong, implausible

    def row(self, row: Measurement) -> tuple[Row | None, list[Problem]]:
        """Return ``row`` on the board, or what is wrong with it."""
        setting, point, problems = self._setting(row)
        if setting is None:
            return None, problems
        key = "network" if row.network else "operator"
        try:
            response = self.response(row, setting)
        except DseError as error:
            found = error.problems if isinstance(error, UserError) else (Problem("", "", str(error), ""),)
            return None, [
                row.problem(each.key if each.key in ("layer", "pass") else key, each.found, each.allowed)
                for each in found
            ]
        seconds = row.latency_s
        if seconds is None and row.cycles is not None:
            seconds = row.cycles / setting.clock_hz
        prior_s = _prior_s(self.board, response)
        if prior_s <= 0 and (seconds is not None or row.power_w is None):
            nothing = f"{row.subject} takes no time by the profile: its cost is included elsewhere, or zero"
            return None, [row.problem(key, nothing, "a row with a cost of its own, such as a whole layer")]
        return Row(row, setting, response, point, seconds, prior_s), []

    def response(self, row: Measurement, setting: Setting) -> Response:
        """Return the response of ``row``. Raises UserError where it has no price."""
        if row.operator:
            return kernel_response(row, setting)
        whole = joined([self._pass(row.network, pass_, setting) for pass_ in row.passes])
        if not row.layer:
            return whole
        units = self._network(row.network).units
        unit = _unit_named(row.layer, [unit.name for unit in units])
        parts = [whole.of_unit(unit + place * len(units)) for place in range(len(row.passes))]
        layer = joined(parts)
        if not layer.macs.any() and row.passes != ("update",):
            problem = Problem(
                "", "layer", f"layer {row.layer} has no {'+'.join(row.passes)}", "a step has none"
            )
            raise UserError(problem)
        return layer

    def _pass(self, network: str, pass_: str, setting: Setting) -> Response:
        key = (network, pass_, setting.dtype, setting.library, setting.cores, setting.clock_hz)
        if key not in self.responses:
            self.responses[key] = network_response(self._network(network), pass_, setting)
        return self.responses[key]

    def _network(self, name: str) -> Workload:
        if name not in self.networks:
            try:
                self.networks[name] = load_network(name)
            except UserError as error:
                self.networks[name] = error
        found = self.networks[name]
        if isinstance(found, UserError):
            raise found
        return found

    def _setting(self, row: Measurement) -> tuple[Setting | None, str, list[Problem]]:
        """Return on what ``row`` ran and the operating point ("" where none has its clock)."""
        problems = [*self._library_problems(row), *self._core_problems(row)]
        point, clock, wrong = self._clock(row)
        problems += wrong
        if problems or clock is None:
            return None, "", problems
        library = row.library or self.board.kernels[row.dtype]
        cores = row.cores or self.board.cores
        return Setting(self.board, row.dtype, library, cores, clock), point, []

    def _library_problems(self, row: Measurement) -> Iterator[Problem]:
        known = dict.fromkeys(rate.library for rate in self.board.rates if rate.dtype == row.dtype)
        if row.library and row.library not in known:
            near = allowed_names(row.library, tuple(known))
            yield row.problem(
                "library", f"no {row.dtype} rates of {row.library!r} on {self.board.name}", near
            )
        elif not row.library and row.dtype not in self.board.kernels:
            dtypes = tuple(self.board.kernels)
            yield row.problem("dtype", f"{self.board.name} computes nothing in {row.dtype}", allowed_names(
                row.dtype, dtypes))  # fmt: skip

    def _core_problems(self, row: Measurement) -> Iterator[Problem]:
        counts = sorted({rate.cores for rate in self.board.rates})
        if row.cores is not None and row.cores not in counts:
            allowed = f"{self.board.name} has rates on {', '.join(map(str, counts))}"
            yield row.problem("cores", f"{row.cores}", allowed)

    def _clock(self, row: Measurement) -> tuple[str, float | None, list[Problem]]:
        """Return (operating point, clock [Hz]) of ``row``, or what is wrong with them."""
        points = self.board.operating_points
        if row.operating_point:
            return _named_point(row, points)
        clocks = {point.clock_hz.value for point in points}
        if row.clock_hz is not None:
            near = [point.name for point in points if _close(point.clock_hz.value, row.clock_hz)]
            return (near[0] if near else ""), row.clock_hz, []
        if len(clocks) == 1 or (row.cycles is not None and row.latency_s is None):
            return points[0].name, points[0].clock_hz.value, []
        names = ", ".join(f"{point.name}" for point in points)
        allowed = f"clock_mhz, or an operating_point of {self.board.name}: {names}"
        return "", None, [row.problem("clock_hz", "no clock", allowed)]

    def _physics(self, row: Row) -> Iterator[Problem]:
        set_ = row.setting
        slipped = list(clock_problems(row.measurement, self.board))
        yield from slipped
        if row.seconds is not None and not slipped:
            yield from time_problems(
                row.measurement, self.board, row.seconds, row.prior_s, row.macs, set_.cores, set_.clock_hz
            )
        prior = None
        if row.point:
            point = self.board.operating_point(row.point)
            prior = (point.training_power_w if row.trains else point.inference_power_w).value
        yield from power_problems(row.measurement, row.seconds, prior)


def _named_point(
    row: Measurement, points: Sequence[OperatingPoint]
) -> tuple[str, float | None, list[Problem]]:
    known = {point.name: point.clock_hz.value for point in points}
    if row.operating_point not in known:
        found = f"unknown operating point {row.operating_point!r}"
        problem = row.problem("operating_point", found, allowed_names(row.operating_point, tuple(known)))
        return "", None, [problem]
    clock = known[row.operating_point]
    if row.clock_hz is not None and not _close(clock, row.clock_hz):
        found = f"{row.clock_hz:g} Hz at {row.operating_point}"
        return "", None, [row.problem("clock_hz", found, f"it runs at {clock:g} Hz")]
    return row.operating_point, clock, []


def _close(one: float, other: float) -> bool:
    return abs(one / other - 1.0) <= CLOCK_TOLERANCE


def _unit_named(text: str, names: Sequence[str]) -> int:
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    found = f"unknown layer {text!r}"
    raise UserError(Problem("", "layer", found, f"an index of 0 to {len(names) - 1}; or "
                            f"{allowed_names(text, names)}"))  # fmt: skip


def _prior_s(board: HardwareProfile, response: Response) -> float:
    known = priced_entries(board)
    costs = np.array([cost_of(path, known[path][1].value) for path in response.paths])
    return response.seconds(costs)
