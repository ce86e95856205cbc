"""CORe50 on a synthetic fixture that has its official layout: no picture of the real data set is here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dse.errors import UserError
from dse.training.data import Dataset, load_data

Image = pytest.importorskip("PIL.Image")

OBJECTS = (1, 2, 6, 50)
LABELS = {6: 0, 1: 1, 50: 2, 2: 3}
"""A run numbers the objects in the order in which they first appear."""
EVENTS = [[(1, 6), (1, 1)], [(2, 50)], [(2, 2), (1, 50)], [(2, 6)]]
"""Per learning event: (session, object)."""
TEST_SESSION = 3
FRAMES = 2


def name(session: int, item: int, frame: int) -> str:
    return f"s{session}/o{item}/C_{session:02}_{item:02}_{frame:03}.png"


def line(session: int, item: int, frame: int) -> str:
    return f"{name(session, item, frame)} {LABELS[item]}\n"


def make(folder: Path, lists: str = "batches_filelists/NICv2_391", size: int = 16) -> Path:
    """Write pictures whose colours are (session, object, frame), and the lists of run 0."""
    for session in (1, 2, TEST_SESSION):
        for item in OBJECTS:
            for frame in range(FRAMES):
                path = folder / "core50_128x128" / name(session, item, frame)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (size, size), (session, item, frame)).save(path)
    run = folder / lists / "run0"
    run.mkdir(parents=True)
    for number, pairs in enumerate(EVENTS):
        text = "".join(line(session, item, frame) for session, item in pairs for frame in range(FRAMES))
        (run / f"train_batch_{number:02}_filelist.txt").write_text(text)
    tested = [line(TEST_SESSION, item, frame) for item in OBJECTS for frame in range(FRAMES)]
    (run / "test_filelist.txt").write_text("".join(tested))
    return run


def load(folder: Path, **options: Any) -> Dataset:
    return load_data({"kind": "core50", "path": str(folder), "size": 16, **options}, file="space.toml")


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        load(folder, **options)
    return str(error.value)


def test_lists_are_followed(tmp_path: Path) -> None:
    make(tmp_path)
    data = load(tmp_path)
    expected = [(s, o, f) for pairs in EVENTS for s, o in pairs for f in range(FRAMES)]
    assert [tuple(x[:, 0, 0].tolist()) for x in data.train.x] == expected
    assert data.train.y.tolist() == [LABELS[item] for _, item, _ in expected]
    assert data.batches is not None
    assert data.batches.tolist() == [n for n, pairs in enumerate(EVENTS) for _ in range(FRAMES * len(pairs))]
    assert data.train.domain.tolist() == [session - 1 for session, _, _ in expected]
    assert set(data.test.domain.tolist()) == {2}, "a session that was never trained on"
    assert data.class_names == ("mobile phone 1", "plug adapter 1", "remote control 5", "plug adapter 2")
    assert data.input_shape == (3, 16, 16)


def test_categories_are_groups_of_five_objects(tmp_path: Path) -> None:
    make(tmp_path)
    data = load(tmp_path, level="category")
    assert data.class_names == ("mobile phone", "plug adapter", "remote control")
    objects = data.train.x[:, 1, 0, 0]
    assert data.train.y.tolist() == [{6: 0, 1: 1, 2: 1, 50: 2}[one] for one in objects.tolist()]


def test_a_share_of_each_list_and_smaller_grey_pictures(tmp_path: Path) -> None:
    make(tmp_path)
    data = load(tmp_path, every=2, size=8, colour="grey")
    assert (data.input_shape, len(data.train), len(data.test)) == ((1, 8, 8), 6, 4)


@pytest.mark.parametrize("lists", ["NIC_v2_391", "batches_filelists/NIC_v2_391", "NICv2_391"])
def test_usual_names_of_the_folder_of_lists_are_found(lists: str, tmp_path: Path) -> None:
    make(tmp_path, lists)
    assert len(load(tmp_path).train) == 12
    assert len(load(tmp_path, lists=lists).train) == 12


def test_a_run_or_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    make(tmp_path)
    assert "run3: 0 lists train_batch_XX_filelist.txt" in refusal(tmp_path, run=3)
    assert "no folder NICv2_79 in" in refusal(tmp_path, lists="NICv2_79")


@pytest.mark.parametrize("folder", ["../elsewhere", "/etc", "a/../../b", "", ".."])
def test_lists_lie_under_the_folder(folder: str, tmp_path: Path) -> None:
    (tmp_path / "core50" / "x").mkdir(parents=True)
    make(tmp_path / "elsewhere")
    text = refusal(tmp_path / "core50", lists=folder)
    assert "task.data.lists" in text


HOSTILE = {
    "upwards": "../../../etc/passwd 0",
    "upwards inside": "s1/o1/../../../C_01_01_000.png 0",
    "absolute": "/s1/o1/C_01_01_000.png 0",
    "another session in the file": "s1/o1/C_02_01_000.png 0",
    "another object in the file": "s1/o2/C_01_01_000.png 0",
    "an object beyond fifty": "s1/o51/C_01_51_000.png 0",
    "a session beyond eleven": "s12/o1/C_12_01_000.png 0",
    "no label": "s1/o1/C_01_01_000.png",
    "a label that is no number": "s1/o1/C_01_01_000.png x",
    "a zero byte": "s1/o1/C_01_01_000.png\0 0",
    "not ASCII": "s1/o1/C_01_01_00\u0663.png 0",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_line_that_core50_does_not_have_is_refused(text: str, tmp_path: Path) -> None:
    run = make(tmp_path)
    path = run / "train_batch_01_filelist.txt"
    path.write_text(path.read_text() + text + "\n", encoding="utf-8")
    message = refusal(tmp_path)
    assert "train_batch_01_filelist.txt: line 3:" in message
    assert "sN/oM/C_NN_MM_FFF.png LABEL" in message


def test_lists_with_a_gap_or_without_test_are_refused(tmp_path: Path) -> None:
    run = make(tmp_path)
    (run / "train_batch_01_filelist.txt").unlink()
    (run / "test_filelist.txt").unlink()
    message = refusal(tmp_path)
    assert "3 lists train_batch_XX_filelist.txt; one for each learning event from 0, without gaps" in message
    assert "no test_filelist.txt" in message


def test_a_picture_that_is_not_there_is_named(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "core50_128x128" / name(2, 50, 1)).unlink()
    assert f"no {name(2, 50, 1)}; unpack the pictures here" in refusal(tmp_path)


def test_a_picture_in_two_lists_is_refused(tmp_path: Path) -> None:
    run = make(tmp_path)
    path = run / "test_filelist.txt"
    path.write_text(path.read_text() + line(1, 6, 0))
    assert "1 pictures are listed twice" in refusal(tmp_path)


def test_labels_must_name_one_object_each(tmp_path: Path) -> None:
    run = make(tmp_path)
    path = run / "train_batch_03_filelist.txt"
    path.write_text(path.read_text().replace(" 0", " 1"))
    assert "an object with two labels, or two with one" in refusal(tmp_path)


def test_labels_without_gaps(tmp_path: Path) -> None:
    run = make(tmp_path)
    for path in run.glob("*.txt"):
        path.write_text(path.read_text().replace(" 3\n", " 7\n"))
    assert "4 labels up to 7; 0, 1, 2 ... without gaps" in refusal(tmp_path)


def test_more_than_fits_is_refused_before_memory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    monkeypatch.setattr("dse.training.data.checks.LARGEST_BYTES", 1000)
    assert "take fewer or smaller samples" in refusal(tmp_path)


def test_pixels_are_resized_to_the_size(tmp_path: Path) -> None:
    make(tmp_path, size=32)
    data = load(tmp_path, size=8)
    assert np.unique(data.train.x[:, 1]).tolist() == sorted(OBJECTS)
