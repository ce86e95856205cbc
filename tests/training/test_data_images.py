"""Folders of pictures: classes and domains by folder, sizes, and files that are no sound pictures."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dse.errors import UserError
from dse.training.data import Dataset, load_data

Image = pytest.importorskip("PIL.Image")


def draw(path: Path, grey: int, size: tuple[int, int] = (8, 6), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), grey, dtype=np.uint8)
    pixels[0, 0] = (255, 0, 10)
    Image.fromarray(pixels).convert(mode).save(path)


def load(folder: Path, **options: Any) -> Dataset:
    return load_data({"kind": "images", "path": str(folder), **options}, file="space.toml")


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        load(folder, **options)
    return str(error.value)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for name, grey in (("cat", 10), ("ant", 100)):
        for k in range(5):
            draw(tmp_path / "pets" / name / f"{k}.png", grey + k)
    return tmp_path / "pets"


def test_a_folder_is_a_class(pets: Path) -> None:
    data = load(pets, test={"share": 0.4})
    assert (data.name, data.class_names, data.input_shape) == ("pets", ("ant", "cat"), (3, 6, 8))
    assert (len(data.train), len(data.test)) == (6, 4)
    greys = np.concatenate([data.train.x, data.test.x])[:, 1, 3, 3]
    labels = np.concatenate([data.train.y, data.test.y])
    assert sorted(zip(labels.tolist(), greys.tolist(), strict=True)) == [
        *((0, 100 + k) for k in range(5)), *((1, 10 + k) for k in range(5)),
    ]  # fmt: skip
    assert data.train.x[0, :, 0, 0].tolist() == [255, 0, 10], "channels first, red first"


def test_the_same_folder_gives_the_same_data(pets: Path) -> None:
    assert load(pets).content_hash == load(pets).content_hash


def test_grey_is_one_channel_and_resizing_takes_the_middle_square(pets: Path) -> None:
    data = load(pets, colour="grey", size=4)
    assert data.input_shape == (1, 4, 4)
    wide = pets / "ant" / "wide.png"
    pixels = np.zeros((4, 12, 3), dtype=np.uint8)
    pixels[:, 4:8] = 200
    Image.fromarray(pixels).save(wide)
    data = load(pets, colour="grey", size=4)
    assert any((one == 200).all() for one in [*data.train.x, *data.test.x])


def test_folders_train_and_test_are_the_parts(tmp_path: Path) -> None:
    for part, grey in (("train", 10), ("test", 200)):
        for name in ("a", "b"):
            draw(tmp_path / part / name / "1.jpg", grey)
    data = load(tmp_path)
    assert (data.train.x.mean() < 60, data.test.x.mean() > 150) == (True, True)
    assert "both a rule and folders" in refusal(tmp_path, test={"share": 0.5})


def test_one_more_level_is_the_domain(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for k, day in enumerate(("fri", "mon", "sun")):
            draw(tmp_path / name / day / "1.png", 10 * k)
            draw(tmp_path / name / day / "2.png", 10 * k + 1)
    data = load(tmp_path, domains=True, test={"key": "domain", "values": ["mon"]})
    assert data.train.domain.tolist() == [0, 0, 2, 2] * 2
    assert data.test.domain.tolist() == [1, 1] * 2
    assert set(data.test.x[:, 0, 3, 3].tolist()) == {10, 11}


def test_names_that_begin_with_a_dot_are_skipped(pets: Path) -> None:
    (pets / ".DS_Store").write_bytes(b"x")
    (pets / "cat" / ".thumbs").write_bytes(b"x")
    assert load(pets).classes == 2


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int = 8, pixels: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


BAD = {
    "empty": (b"", "cannot be read"),
    "a text": (b"hello", "cannot be read"),
    "a bomb of 10^10 pixels": (png(100_000, 100_000), "cannot be read"),
    "a bomb of 10^8 pixels": (png(10_000, 10_000), "cannot be read"),
    "5000 x 5000 pixels": (png(5000, 5000), "5000 x 5000 pixels; at most 16777216"),
    "16 bits": (png(8, 6, 16, bytes(17 * 6)), "8 bits per channel: convert"),
    "pixels missing": (png(8, 6, 8, bytes(10)), "cannot be decoded"),
    "cut off": (png(8, 6, 8, bytes(range(54)))[:60], "cannot be"),
    "a gif": (b"GIF89a" + bytes(20), "cannot be read"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_a_file_that_is_no_sound_picture_is_named(content: bytes, message: str, pets: Path) -> None:
    (pets / "cat" / "3.png").write_bytes(content)
    text = refusal(pets)
    assert message in text
    assert str(pets / "cat" / "3.png") in text


def test_every_bad_picture_is_named_at_once(pets: Path) -> None:
    for k in (1, 2):
        (pets / "cat" / f"{k}.png").write_bytes(b"x")
    assert refusal(pets).count("cannot be read") == 2


def test_pictures_of_several_sizes_need_a_size(pets: Path) -> None:
    draw(pets / "cat" / "9.png", 5, (8, 8))
    assert "9.png: 8 x 8 pixels; 8 x 6 as the first picture, or say size = N" in refusal(pets)
    assert load(pets, size=6).input_shape == (3, 6, 6)


@pytest.mark.parametrize("name", ["cat/notes.txt", "notes.txt", "cat/deeper/1.png"])
def test_what_is_no_picture_in_its_place_is_refused(name: str, pets: Path) -> None:
    if name.endswith("png"):
        draw(pets / name, 1)
    else:
        (pets / name).write_text("x")
    assert "not a picture in its place; class/file; move it away" in refusal(pets)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "no pictures; class/file with .png" in refusal(tmp_path)
    (tmp_path / "cat").mkdir()
    assert "no pictures" in refusal(tmp_path)


def test_one_class_is_refused(tmp_path: Path) -> None:
    draw(tmp_path / "cat" / "1.png", 1)
    draw(tmp_path / "cat" / "2.png", 2)
    assert "1 classes; 2 to" in refusal(tmp_path)


@pytest.mark.parametrize(
    "options", [{"test": {"key": "day", "values": ["x"]}}, {"test": {"key": "domain", "values": ["x"]}}]
)
def test_a_rule_needs_domains(options: dict[str, Any], pets: Path) -> None:
    assert '"domain" with values, together with domains = true' in refusal(pets, **options)


def test_more_than_fits_is_refused_before_memory_is_taken(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dse.training.data.checks.LARGEST_BYTES", 1000)
    assert "take fewer or smaller samples" in refusal(pets)


def test_without_pillow_the_extra_is_named(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dse.training.data.pictures.find_spec", lambda name: None)
    assert "pillow; pip install 'tinyml-dse[train]'" in refusal(pets)
