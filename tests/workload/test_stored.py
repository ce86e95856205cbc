"""Numbers beside a network file are believed only as far as they fit; what they are in memory."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dse.errors import UserError
from dse.workload import load_network
from dse.workload.numbers import Numbers
from dse.workload.parameters import layers_without_numbers, with_numbers
from dse.workload.save import save_network
from tests.workload.fuzzing import mutations, survives
from tests.workload.numbered import Arrays, drawn, good

# --- variants of a network with numbers ---


def test_a_new_head_has_no_numbers_and_the_rest_keeps_its_own(tmp_path: Path) -> None:
    path = save_network(good(tmp_path), tmp_path)
    whole, other = load_network(path), load_network(path, classes=7)
    assert layers_without_numbers(whole) == ()
    assert layers_without_numbers(other) == ("c",)
    assert set(whole.numbers) - set(other.numbers) == {"c.weight", "c.bias"}
    assert other.numbers["a.weight"].tobytes() == whole.numbers["a.weight"].tobytes()
    assert other.weights_sha256 != whole.weights_sha256


def test_sizes_that_leave_weights_alone_may_change(tmp_path: Path) -> None:
    path = save_network(good(tmp_path), tmp_path)
    assert load_network(path, resolution=16).numbers == load_network(path).numbers
    for change, layer in (({"width": 2.0}, "a"), ({"channels": 1}, "a")):
        with pytest.raises(UserError, match=f"numbers of {layer}.* do not fit this variant"):
            load_network(path, **change)  # type: ignore[arg-type]


def test_a_new_head_excuses_no_other_misfit(tmp_path: Path) -> None:
    path = save_network(good(tmp_path), tmp_path)
    with pytest.raises(UserError, match=r"numbers of a.* do not fit this variant"):
        load_network(path, classes=7, channels=1)


# --- what is not believed ---


def rewritten(folder: Path, change: Callable[[Arrays], Arrays]) -> Path:
    """Save a network, and its numbers again, changed."""
    network = good(folder)
    path = save_network(network, folder)
    text = path.read_text(encoding="utf-8")
    path.write_text("".join(line + "\n" for line in text.splitlines() if "sha256" not in line))
    np.savez(path.with_suffix(".npz"), **change(dict(network.numbers)))  # type: ignore[arg-type]
    return path


def with_nan(arrays: Arrays) -> Arrays:
    spoiled = arrays["a.weight"].copy()
    spoiled[0] = np.nan
    return {**arrays, "a.weight": spoiled}


WRONG: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "unknown": (lambda a: {**a, "z.weight": np.zeros(3, np.float32)}, "z.weight: unknown; a layer"),
    "shape": (lambda a: {**a, "c.bias": np.zeros(5, np.float32)}, r"c.bias: shape \(5,\); must be \(4,\)"),
    "turned": (
        lambda a: {**a, "c.weight": np.ascontiguousarray(a["c.weight"].T)},
        r"c.weight: shape .*; must be",
    ),
    "type": (lambda a: {**a, "c.bias": np.zeros(4)}, "c.bias: numbers of type <f8; must be <f4"),
    "nan": (with_nan, "a.weight: NaN or infinite values"),
    "missing": (lambda a: {k: v for k, v in a.items() if k != "c.bias"}, "c.bias: missing; all parameters"),
    "negative variance": (
        lambda a: {**a, "a.batch_norm.variance": -np.ones(8, np.float32)},
        "a.batch_norm.variance: -1; a variance is at least 0",
    ),
    "objects": (lambda a: {**a, "c.bias": np.array([None] * 4)}, "c.bias: cannot be read: .* not plain"),
    "order": (lambda a: {**a, "c.weight": np.asfortranarray(a["c.weight"])}, "c.weight: .* not plain"),
    "scales": (
        lambda a: {**a, "quantisation/a.weight/scale": np.zeros((2, 2))},
        r"quantisation/a.weight/scale: shape \(2, 2\); must be one number, or a list",
    ),
    "part": (
        lambda a: {**a, "quantisation/a.weight/code": np.zeros(2)},
        "quantisation/a.weight/code: unknown",
    ),
}


@pytest.mark.parametrize(("change", "text"), WRONG.values(), ids=WRONG)
def test_numbers_that_do_not_fit(change: Callable[[Arrays], Arrays], text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=text) as refused:
        load_network(rewritten(tmp_path, change))
    assert refused.value.problems[0].file == str(tmp_path / "good.npz")


def test_all_faults_of_the_numbers_at_once(tmp_path: Path) -> None:
    def spoil(arrays: Arrays) -> Arrays:
        return {**with_nan(arrays), "c.bias": np.zeros(5, np.float32), "z": np.zeros(1, np.float32)}

    with pytest.raises(UserError) as refused:
        load_network(rewritten(tmp_path, spoil))
    assert {problem.key for problem in refused.value.problems} == {"a.weight", "c.bias", "z"}


class Unpickled:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise RuntimeError('code was run')",))


def test_a_pickle_inside_is_not_opened(tmp_path: Path) -> None:
    path = rewritten(tmp_path, dict)
    pickled = io.BytesIO()
    np.save(pickled, np.array([Unpickled()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(path.with_suffix(".npz"), "w") as archive:
        archive.writestr("c.bias.npy", pickled.getvalue())
        archive.writestr("c.weight.npy", pickle.dumps(Unpickled()))
    with pytest.raises(UserError, match="cannot be read"):
        load_network(path)


def test_an_array_that_claims_more_than_it_has_takes_no_memory(tmp_path: Path) -> None:
    path = rewritten(tmp_path, dict)
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 4), }"
    body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    for claim in (body, body.replace(b"(99999999999, 4)", b"(4,)" + b" " * 12)):
        with zipfile.ZipFile(path.with_suffix(".npz"), "w") as archive:
            archive.writestr("c.bias.npy", claim)
        with pytest.raises(UserError, match=r"c.bias: cannot be read"):
            load_network(path)


def test_bombs_stop_where_the_shape_ends(tmp_path: Path) -> None:
    path = rewritten(tmp_path, dict)
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }"
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    with zipfile.ZipFile(path.with_suffix(".npz"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("c.bias.npy", start + bytes(2**26))
    with pytest.raises(UserError, match=r"c.bias: cannot be read: more bytes than its shape says"):
        load_network(path)


@pytest.mark.parametrize("where", [0, 10, 40, 200, -30, -10])
def test_damaged_archives(where: int, tmp_path: Path) -> None:
    path = save_network(good(tmp_path), tmp_path)
    numbers = path.with_suffix(".npz")
    whole = numbers.read_bytes()
    numbers.write_bytes(whole[:where])
    with pytest.raises(UserError):
        load_network(path)
    spoiled = bytearray(whole)
    spoiled[where] ^= 0xFF
    numbers.write_bytes(bytes(spoiled))
    try:
        assert load_network(path) == good(tmp_path)  # a time stamp or the like
    except UserError as error:
        assert "good.npz" in str(error)  # noqa: PT017 - either is right, a crash is not


def test_whatever_is_damaged_is_read_or_refused_by_name(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = save_network(good(tmp_path), tmp_path)
    numbers, whole = path.with_suffix(".npz"), load_network(path).numbers

    def read(damaged: Path) -> None:
        numbers.write_bytes(damaged.read_bytes())
        assert load_network(path).numbers == whole  # other numbers would have another hash

    count = 5000 if request.config.getoption("--long") else 300
    found = [survives(read, data, ".npz") for data in mutations(numbers.read_bytes(), 6, count)]
    assert 0 < sum(found) < count / 2


def test_a_file_that_is_too_large_is_not_opened(tmp_path: Path) -> None:
    path = rewritten(tmp_path, dict)
    with path.with_suffix(".npz").open("r+b") as stream:
        stream.truncate(2**25)
    with pytest.raises(UserError, match=r"33554432 bytes; at most .* what the network's numbers take"):
        load_network(path)


@pytest.mark.parametrize(
    "name",
    [
        "../good.npz",
        "/etc/passwd.npz",
        "sub/../../x.npz",
        "good.npy",
        "a\\\\b.npz",
        "a\\u0000.npz",
        "link.npz",
    ],
)
def test_numbers_stay_in_the_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    path = save_network(good(tmp_path), folder)
    (folder / "good.npz").rename(tmp_path / "good.npz")
    (folder / "link.npz").symlink_to(tmp_path / "good.npz")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('weights = "good.npz"', f'weights = "{name}"'), encoding="utf-8")
    with pytest.raises(UserError, match=r"weights: .*; the name of an .npz file in the folder"):
        load_network(path)


def test_numbers_may_lie_below(tmp_path: Path) -> None:
    path = save_network(good(tmp_path), tmp_path / "net")
    (tmp_path / "net" / "sub").mkdir()
    (tmp_path / "net" / "good.npz").rename(tmp_path / "net" / "sub" / "good.npz")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"good.npz"', '"sub/good.npz"'), encoding="utf-8")
    assert load_network(path) == good(tmp_path)


def test_files_of_two_saves_are_told_apart(tmp_path: Path) -> None:
    network = good(tmp_path)
    save_network(network, tmp_path / "a")
    save_network(with_numbers(network, drawn(network, seed=1), "b"), tmp_path / "b")
    (tmp_path / "b" / "good.npz").replace(tmp_path / "a" / "good.npz")
    with pytest.raises(UserError, match=r"weights_sha256: .*the two files are not of one save"):
        load_network(tmp_path / "a" / "good.toml")


def test_missing_numbers_are_missed(tmp_path: Path) -> None:
    path = save_network(good(tmp_path), tmp_path)
    path.with_suffix(".npz").unlink()
    with pytest.raises(UserError, match=r"good.npz: no such file"):
        load_network(path)


# --- what numbers are ---


def test_numbers_cannot_be_changed_and_equal_ones_are_one() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    numbers = Numbers({"a": array}, "here")
    array[0, 0] = 7
    assert numbers["a"][0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        numbers["a"][0, 0] = 1
    assert numbers == Numbers({"a": numbers["a"]}, "there")
    assert numbers != Numbers({"a": numbers["a"].reshape(3, 2)})
    assert numbers != Numbers({"b": numbers["a"]})
    assert pickle.loads(pickle.dumps(numbers)) == numbers


def test_a_process_holds_equal_numbers_once() -> None:
    network = load_network("resnet8")
    network = with_numbers(network, drawn(network), "m")
    sent = pickle.dumps(network)
    first, second = pickle.loads(sent), pickle.loads(sent)
    assert first == second == network
    assert first.numbers is second.numbers
    assert not any(array.flags.writeable for array in first.numbers.values())


def test_layers_whose_numbers_do_not_fit_are_drawn(tmp_path: Path) -> None:
    network = good(tmp_path)
    found = dict(network.numbers) | {"b.weight": np.zeros((1, 1), np.float32)}
    del found["a.batch_norm.mean"]
    assert layers_without_numbers(with_numbers(network, found, "m")) == ("a.batch_norm", "b")
    assert with_numbers(network, {}, "m").weights == ""


def test_numbers_are_not_part_of_the_structure(tmp_path: Path) -> None:
    network = good(tmp_path)
    bare = replace(network, numbers=Numbers({}))
    assert network.content_hash == bare.content_hash == bare.training_hash
    assert network.training_hash not in (bare.training_hash, network.content_hash)
    assert network != bare
    assert (bare.weights, bare.weights_sha256) == ("", "")


def test_no_way_up_even_where_it_comes_back(tmp_path: Path) -> None:
    path = save_network(good(tmp_path), tmp_path)
    (tmp_path / "below").mkdir()
    text = path.read_text(encoding="utf-8")
    for name, fits in ((f"below/../{path.stem}.npz", False), (f"./{path.stem}.npz", True)):
        path.write_text(text.replace(f'"{path.stem}.npz"', f'"{name}"'), encoding="utf-8")
        if fits:
            assert load_network(path).numbers
        else:
            with pytest.raises(UserError, match="in the folder of this file, or below it"):
                load_network(path)


def test_a_file_full_of_faults_is_told_in_few_lines(tmp_path: Path) -> None:
    path = rewritten(tmp_path, lambda a: {**a, **{f"x{i}": np.zeros(1, np.float32) for i in range(500)}})
    with pytest.raises(UserError) as caught:
        load_network(path)
    assert len(caught.value.problems) == 21
    assert "480 more faults" in str(caught.value)
