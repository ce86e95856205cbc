"""Tables of measurements: every mistake at once, each with line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

import dse
from dse.calibrate import parse_measurements, read_measurements, template
from dse.calibrate.table import MOST_BYTES, MOST_ROWS
from dse.errors import UnknownName, UserError

HEADER = "network,dtype,clock_mhz,latency_ms"


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "rows.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def mistakes(folder: Path, text: str | bytes) -> list[str]:
    path = write(folder, text)
    return [str(problem).replace(str(path), "rows.csv") for problem in parse_measurements(path)[1]]


@pytest.mark.parametrize("form", ["mlperf", "network", "kernels"])
def test_every_template_reads_back(form: str, tmp_path: Path) -> None:
    rows = read_measurements(write(tmp_path, template(form)))
    assert len(rows) == 2
    assert all(row.timed for row in rows)


def test_an_unknown_template_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'kernels'"):
        template("kernel")


@pytest.mark.parametrize(
    ("header", "cell", "field", "value"),
    [
        ("latency_ms", "12.5", "latency_s", 0.0125),
        ("latency_us", "12.5", "latency_s", 12.5e-6),
        ("latency_s", "1.25e-2", "latency_s", 0.0125),
        ("Latency_MS", "12.5", "latency_s", 0.0125),
        ("energy_uj,latency_s", "3,1", "energy_j", 3e-6),
        ("energy_mj,latency_s", "3,1", "energy_j", 3e-3),
        ("power_mw", "41", "power_w", 0.041),
        ("clock_khz,latency_s", "32,1", "clock_hz", 32e3),
    ],
)
def test_the_header_carries_the_unit(
    header: str, cell: str, field: str, value: float, tmp_path: Path
) -> None:
    (row,) = read_measurements(write(tmp_path, f"network,dtype,{header}\nresnet8,int8,{cell}\n"))
    assert getattr(row, field) == pytest.approx(value)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("latency", "no unit; one of latency_s, latency_ms, latency_us, latency_ns"),
        ("latency_sec", "unknown unit 'sec'; one of latency_s"),
        ("latency (ms)", "unknown unit 'ms'; one of latency_s"),
        ("latency_kib", "unknown unit 'kib'"),
        ("energy_kwh", "unknown unit 'kwh'; one of energy_j, energy_mj, energy_uj"),
        ("clock", "no unit; one of clock_hz, clock_mhz, clock_khz"),
        ("libary", "unknown column; did you mean 'library'?"),
        ("", "empty; each column needs a name"),
    ],
)
def test_a_header_that_is_not_known(column: str, said: str, tmp_path: Path) -> None:
    found = mistakes(tmp_path, f"network,dtype,latency_ms,{column}\nresnet8,int8,3,4\n")
    assert len(found) == 1
    assert found[0].startswith("rows.csv: header, ")
    assert said in found[0]


def test_the_same_quantity_twice(tmp_path: Path) -> None:
    found = mistakes(tmp_path, "network,dtype,latency_ms,latency_s\nresnet8,int8,3,4\n")
    assert found == ["rows.csv: header, latency_s: says the same as latency_ms; one column for each quantity"]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("nan", "must be a plain number"),
        ("inf", "must be a plain number"),
        ("-3", "must be finite and above zero"),
        ("0", "must be finite and above zero"),
        ("1e308", "must be within 1e-15 to 1e+15"),
        ("1e999", "must be finite and above zero"),
        ("1e-300", "must be within"),
        ("1_000", "must be a plain number"),
        ("0x10", "must be a plain number"),
        ("12 ms", "must be a plain number; the unit stands in the header"),
        ("'12", "must be a plain number"),
        ("=1+1", "must be a plain number"),
        ("١٢", "must be a plain number"),
    ],
)
def test_a_number_that_is_none(cell: str, said: str, tmp_path: Path) -> None:
    found = mistakes(tmp_path, f"{HEADER}\nresnet8,int8,120,{cell}\n")
    assert len(found) == 1, found
    assert found[0].startswith("rows.csv: line 2, latency_ms: ")
    assert said in found[0]


def test_a_decimal_comma(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, f'{HEADER}\nresnet8,int8,120,"12,5"\n')
    assert "a point, not a comma" in found


def test_all_mistakes_of_a_file_at_once(tmp_path: Path) -> None:
    text = (
        "network,layer,operator,pass,dtype,cores,clock_mhz,latency,power_mw,repeats\n"
        "resnet8,,,forward,int8,1,120,3,4,1\n"
        "resnet8,,conv2d,fwd,int4,1.5,120,3,4,1\n"
        "resnet8,,,fwd,int8\n"
        ",,,fwd,int8,1,x,3,4,0.5\n"
    )
    found = mistakes(tmp_path, text)
    places = [line.split(": ")[1] for line in found]
    assert places == [
        "header, 'latency'", "line 2, pass", "line 3, cores", "line 3, dtype", "line 4", "line 5, clock_mhz",
        "line 5, repeats",
    ]  # fmt: skip


def test_mistakes_of_the_table_of_its_rows_and_of_the_board_come_together(tmp_path: Path) -> None:
    text = f"{HEADER}\nresnet9,int8,120,200\nresnet8,int8,120,x\nresnet8,int8,120,0.2\n"
    with pytest.raises(UserError) as caught:
        dse.calibrate_board("stm32l4r5", write(tmp_path, text))
    said = str(caught.value)
    assert "line 3, latency_ms: 'x'" in said
    assert "line 2, network: unknown network 'resnet9'; did you mean 'resnet8'?" in said
    assert "line 4, latency_ms:" in said
    assert "MAC/cycle" in said


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("resnet8,,,fwd,int8,,,,,", "nothing measured"),
        (",,conv2d,fwd,int8,,,5,,", "line 2, macs: empty; a row of conv2d needs its MACs"),
        (",,relu,fwd,int8,,,5,,", "line 2, elements: empty"),
        (",,relu,bwd_weight,int8,,3,5,,", "relu has fwd and bwd_input"),
        (",,conv2d,update,int8,9,,5,,", "an update is a row of update_sgd"),
        ("resnet8,,,fwd,int8,,,,3,", "energy without a time"),
        ("resnet8,,conv2d,fwd,int8,9,,5,,", "both network and operator"),
        (",,,fwd,int8,9,,5,,", "neither network nor operator"),
        (",,conv2d,fwd,int8,9,,5,,9", "macs / cycles gives 1.8"),
        ("resnet8,,,bwd_input_int8,fp32,,,5,,", "passes on int8 errors are of dtype int8"),
    ],
)
def test_what_single_cells_cannot_know(row: str, said: str, tmp_path: Path) -> None:
    header = "network,layer,operator,pass,dtype,macs,elements,cycles,energy_uj,mac_per_cycle"
    found = mistakes(tmp_path, f"{header}\n{row}\n")
    assert any(said in line for line in found), found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "no header"),
        (b"\n\n# nothing\n", "no header"),
        (HEADER.encode(), "no rows"),
        (b"\xff\xfe\x00network", "not UTF-8"),
        (HEADER.replace(",", ";").encode() + b"\nresnet8;int8;120;3\n", "columns separated by semicolons"),
        (HEADER.replace(",", "\t").encode() + b"\nresnet8\tint8\t120\t3\n", "columns separated by tabs"),
        (HEADER.encode() + b'\n"resnet8,int8,120,3\n', "not CSV"),
        (HEADER.encode() + b"\nres\x00net8,int8,120,3\n", "printable"),
        (HEADER.encode() + b"\n" + b"x" * 600 + b",int8,120,3\n", "at most 500"),
        (HEADER.encode() + b"\n" + b"x" * 200_000 + b",int8,120,3\n", "not CSV"),
        (b"x" * (MOST_BYTES + 1), "at most"),
        ((HEADER + "\n" + "resnet8,int8,120,3\n" * (MOST_ROWS + 5)).encode(), f"more than {MOST_ROWS} rows"),
    ],
)
def test_hostile_tables(text: bytes, said: str, tmp_path: Path) -> None:
    found = mistakes(tmp_path, text)
    assert found
    assert any(said in line for line in found), found[:3]
    assert all(len(line) < 400 for line in found)


def test_a_byte_order_mark_quotes_and_windows_lines_are_fine(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf" + HEADER.encode() + b',note\r\n"resnet8",int8,120,3,"a ""note"", here"\r\n'
    (row,) = read_measurements(write(tmp_path, text))
    assert (row.network, row.note) == ("resnet8", 'a "note", here')


def test_many_mistakes_are_counted_not_listed(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "\n" + "resnet8,int8,120,x\n" * 1000)
    with pytest.raises(UserError) as caught:
        read_measurements(path)
    assert len(caught.value.problems) == 41
    assert "960 more problems" in str(caught.value)


@pytest.mark.parametrize("name", ["missing.csv", ".", "a\0b", "x" * 5000])
def test_a_file_that_is_none(name: str, tmp_path: Path) -> None:
    rows, problems = parse_measurements(f"{tmp_path}/{name}")
    assert not rows
    assert len(problems) == 1


def test_words_of_kernel_tables_for_pulp(tmp_path: Path) -> None:
    """Rows as the PULP-TrainLib exercises print them."""
    text = (
        "source,locator,platform,l1_kb,cores,operator,pass,dtype,matmul,macs,elements,cycles,mac_per_cycle\n"
        "x,exercise 01,PULP,256,8,linear,WG+IG,fp32,naive mm,36864,,23937,1.54\n"
        "x,exercise 01,PULP,256,8,relu,BW,fp32,-,,576,1038,\n"
        "x,exercise 01,PULP,256,8,conv2d,FW,fp32,naive mm,41472,,27668,\n"
        "x,exercise 02,PULP,256,8,linear,IG,fp16,SIMD,16384,,,3.5463\n"
    )
    rows = read_measurements(write(tmp_path, text))
    assert [row.passes for row in rows] == [
        ("bwd_weight", "bwd_input"), ("bwd_input",), ("fwd",), ("bwd_input",)
    ]  # fmt: skip
    assert rows[3].cycles == pytest.approx(4620, rel=1e-4)
    found = dse.calibrate_board("vega", rows)
    assert len(found.rows) == 4
    both = {each.term.path for each in found.terms if "linear" in each.term.path and "fp32" in each.term.path}
    assert both == {
        "rate[pulp-fp32,linear,bwd_weight,fp32,8].mac_per_cycle",
        "rate[pulp-fp32,linear,bwd_input,fp32,8].mac_per_cycle",
    }


def test_a_device_without_end_is_read_no_further_than_a_file_may_be() -> None:
    rows, (problem,) = parse_measurements("/dev/zero")
    assert not rows
    assert f"at most {MOST_BYTES} bytes" in str(problem)


def test_less_than_one_of_what_is_counted(tmp_path: Path) -> None:
    found = mistakes(tmp_path, "operator,dtype,macs,calls,cycles\nconv2d,fp32,0.5,0.1,0.9\n")
    assert [line.split(": ")[1] for line in found] == ["line 2, macs", "line 2, calls", "line 2, cycles"]
    assert all("must be 1 at least" in line for line in found)
