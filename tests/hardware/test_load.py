"""Boards and parts by name and path, units, and every kind of mistake with its text."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from dse.errors import UnknownName, UserError
from dse.hardware import check_board, list_boards, list_parts, load_board, load_part
from dse.hardware.load import split_board

DATA = Path(__file__).parent / "data"
SMALL = DATA / "small-board.toml"

Break = Callable[[str, str], Path]


@pytest.fixture
def broken(tmp_path: Path) -> Break:
    """Write the small board with one stretch of text replaced."""

    def write(old: str, new: str) -> Path:
        text = SMALL.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the small board"
        path = tmp_path / "broken.toml"
        path.write_text(text.replace(old, new), encoding="utf-8")
        return path

    return write


def test_small_board_is_valid() -> None:
    assert check_board(SMALL) == []


def test_units_of_the_file_become_si() -> None:
    board = load_board(SMALL)
    numbers = dict(board.numbers())
    assert numbers["memory.RAM.size_bytes"].value == 64 * 1024
    assert numbers["memory.RAM.reserve_bytes"].low == 4 * 1024
    assert numbers["memory.ROM.write_bytes_per_s"].value == 100e3
    assert numbers["memory.ROM.write_j_per_byte"].value == pytest.approx(100e-9)
    assert numbers["memory.ROM.erase_s"].value == pytest.approx(20e-3)
    assert numbers["operating_point.fast.clock_hz"].value == 40e6
    assert numbers["operating_point.fast.training_power_w"].value == pytest.approx(12e-3)
    assert numbers["sleep_state.stop.power_w"].value == pytest.approx(5e-6)
    assert numbers["supply.efficiency_active_fraction"].value == pytest.approx(0.85)
    assert numbers["battery.charge_c"].value == pytest.approx(0.225 * 3600)
    assert numbers["battery.self_discharge_per_year"].value == pytest.approx(0.01)
    assert board.rate("linear", "fwd", "fp32").measured_at_hz == 40e6


def test_lists_stand_for_every_combination() -> None:
    board = load_board(SMALL)
    assert len(board.rates) == 3 * 2 * 2
    assert {rate.cores for rate in board.rates} == {1, 2}


def test_loading_twice_gives_equal_values() -> None:
    first, second = load_board("vega + hyperram-64"), load_board("vega + hyperram-64")
    assert first == second
    assert first is not second


def test_ten_mistakes_are_ten_problems() -> None:
    path = DATA / "ten-mistakes.toml"
    assert sum("# " in line and ": " in line.split("# ")[-1] for line in path.read_text().splitlines()) == 10
    problems = check_board(path)
    assert len(problems) == 10
    assert {problem.key for problem in problems} == {
        "memory.RAM.size_kib.value",
        "operating_point.fast.clock_mhz.source",
        "sleep_state.stop.wake_us.source",
        "operating_point.fast.training_powr_mw",
        "sleep_state.stop.retains",
        "rate[0].mac_per_cycle.low",
        "operating_point.fast.inference_power_mw.value",
        "dma.setup_cycles.kind",
        "element[0].operation",
        "supply.efficiency_active_percent",
    }
    with pytest.raises(UserError) as caught:
        load_board(path)
    assert list(caught.value.problems) == problems


MISTAKES = tomllib.loads((DATA / "mistakes.toml").read_text(encoding="utf-8"))["mistake"]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake["new"][:40])
def test_a_mistake_is_blamed_on_its_key(broken: Break, mistake: dict[str, str]) -> None:
    problems = check_board(broken(mistake["old"], mistake["new"]))
    blamed = [problem for problem in problems if problem.key == mistake["key"]]
    assert blamed, f"{mistake['key']} is not blamed in: {[str(problem) for problem in problems]}"
    assert mistake["text"] in str(blamed[0])


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake["new"][:40])
def test_no_mistake_loads(broken: Break, mistake: dict[str, str]) -> None:
    with pytest.raises(UserError):
        load_board(broken(mistake["old"], mistake["new"]))


def test_a_missing_source_is_one_problem(broken: Break) -> None:
    path = broken(
        '{ value = 40, kind = "datasheet", source = "sheet" }', '{ value = 40, kind = "datasheet" }'
    )
    assert [str(problem).partition(": ")[2] for problem in check_board(path)] == [
        "operating_point.fast.clock_mhz.source: no source; "
        "every number needs one: a key of references.bib or of [sources]"
    ]


def test_a_list_that_expands_too_far_is_refused(broken: Break) -> None:
    path = broken("cores = [1, 2]", f"cores = [{', '.join(['1'] * 400)}]")
    assert any("stands for 2400 entries; at most 1000" in str(problem) for problem in check_board(path))


def test_unknown_board_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown board 'vegga'; did you mean 'vega'"):
        load_board("vegga")


def test_unknown_part_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown part 'hyperam-64'; did you mean 'hyperram-64'"):
        load_board("vega + hyperam-64")
    assert "hyperram-64" in str(check_board("vega + hyperam-64")[0])


def test_files_that_are_no_boards(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_board(tmp_path / "absent.toml")
    for content, text in (
        (b"\xff\xfe", "cannot be read"),
        (b"a = [", "not TOML"),
        (b"#" * 2_000_000, "at most"),
    ):
        path = tmp_path / "bad.toml"
        path.write_bytes(content)
        assert text in str(check_board(path)[0])


def test_an_empty_file_lists_what_is_compulsory(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("")
    keys = {problem.key for problem in check_board(path)}
    assert keys >= {"name", "title", "core", "cores", "kernels", "memory", "rate", "element", "overhead"}
    assert keys >= {"operating_point", "sleep_state", "dma", "supply"}
    assert "battery" not in keys


def test_no_battery_means_the_reference_battery(broken: Break) -> None:
    text = SMALL.read_text(encoding="utf-8")
    board = load_board(broken(text[text.index("[battery]") :], ""))
    assert board.battery.name == "reference 3300 mAh"
    assert board.battery.energy_j == pytest.approx(39204)
    assert "ravaglia2021" in board.sources()


def test_parts_attach_by_name_and_by_path(tmp_path: Path) -> None:
    own = tmp_path / "own-part.toml"
    own.write_text(
        'name = "own"\ntitle = "Own part"\n[sources]\nsheet = "Its sheet"\n[memory]\nname = "OWN"\n'
        'technology = "fram"\naccess = "stream"\nvolatile = false\ndomain = "own"\n'
        + "".join(
            f'{key} = {{ value = 1, kind = "datasheet", source = "sheet" }}\n'
            for key in ("size_mib", "read_mb_per_s", "write_mb_per_s", "endurance_cycles")
        )
        + "".join(
            f'{key} = {{ value = 1, kind = "datasheet", source = "sheet" }}\n'
            for key in ("read_nj_per_byte", "write_nj_per_byte")
        )
    )
    board = load_board(f"{SMALL} + {own} + qspi-nor")
    assert board.label == "small + own + qspi-nor"
    assert [level.name for level in board.levels] == ["RAM", "ROM", "OWN", "QSPI_NOR"]
    assert board.level("OWN").attached
    assert not board.level("RAM").attached
    assert board.sources()["sheet"] == "Its sheet"


def test_a_part_attaches_once() -> None:
    with pytest.raises(UserError, match="'HyperRAM' is there already"):
        load_board("vega + hyperram-64 + hyperram-64")
    assert "is there already" in str(check_board("vega + hyperram-64 + hyperram-64")[0])


def test_a_broken_part_lists_all_of_its_problems(tmp_path: Path) -> None:
    part = tmp_path / "part.toml"
    part.write_text('name = "p"\ncolour = "red"\n[memory]\nname = "P"\n')
    with pytest.raises(UserError) as caught:
        load_part(str(part))
    keys = {problem.key for problem in caught.value.problems}
    assert keys >= {"title", "colour", "memory.technology", "memory.size_bytes", "memory.read_j_per_byte"}


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("vega", ["vega"]),
        ("vega + hyperram-64", ["vega", "hyperram-64"]),
        ("vega+hyperram-64+fram", ["vega", "hyperram-64", "fram"]),
        ("a+b/board.toml + fram", ["a+b/board.toml", "fram"]),
    ],
)
def test_split_board(text: str, pieces: list[str]) -> None:
    assert split_board(text) == pieces


def test_what_is_shipped() -> None:
    assert {"vega", "stm32l476rg", "stm32f746", "nrf52840"} < set(list_boards())
    assert len(list_boards()) >= 10
    assert {"hyperram-64", "qspi-nor", "psram", "fram"} <= set(list_parts())


@pytest.mark.parametrize("size", ["1e300", "1e308", "2e12", "9" * 400])
def test_a_size_that_only_a_slip_explains(tmp_path: Path, size: str) -> None:
    source = (Path(__file__).parents[2] / "hwprofiles" / "stm32l476rg.toml").read_text(encoding="utf-8")
    path = tmp_path / "board.toml"
    path.write_text(
        source.replace("size_kib = { value = 96,", f"size_kib = {{ value = {size},"), encoding="utf-8"
    )
    assert "size_kib.value: " in str(check_board(path)[0])
    with pytest.raises(UserError, match=r"size_kib\.value: "):
        load_board(path)


def test_a_board_with_tiles_says_whether_its_dma_is_duplex(broken: Break) -> None:
    """Unknown is an error: half duplex is no default."""
    problems = check_board(broken('access = "core"', 'access = "tile"'))
    assert [problem.key for problem in problems] == ["dma.duplex_fraction"]
    assert "missing" in str(problems[0])


@pytest.mark.parametrize("name", ["vega", "gap8", "gap9"])
def test_boards_with_tiles_have_the_figures_of_their_dma(name: str) -> None:
    dma = load_board(name).dma
    assert dma.duplex_fraction is not None
    assert dma.setup_cycles.value > 0
    assert (dma.duplex_fraction.low_value, dma.duplex_fraction.high_value) == (0, 1)


def test_a_kernel_may_need_another_buffer_beside_its_tiles() -> None:
    board = load_board("vega")
    assert board.workspace("pulp-fp32", "conv2d", "fwd") == "none"
    assert board.tile_workspace("pulp-fp32", "conv2d", "fwd") == "im2col_full"
    assert board.tile_workspace("dory", "conv2d", "fwd") == board.workspace("dory", "conv2d", "fwd")
    assert board.tile_workspace("pulp-fp32", "pointwise", "fwd") == "none"
