"""Downloads against a server on loopback: pinned, resumed, refused, and clear when there is no way out."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dse.errors import UserError
from dse.training.data import download, fashion, load_data
from dse.training.data.download import Remote, Resuming, fetch
from tests.training.test_data_idx import family

pytest.importorskip("pooch")

CONTENT = bytes(range(256)) * 4000
PACKED = gzip.compress(CONTENT, mtime=0)


@dataclass
class Server:
    """What a server on loopback offers, how it behaves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    """Bytes after which each further answer breaks off."""
    ranges: bool = True
    sizes: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0

    def url(self, name: str = "file.gz") -> str:
        return f"http://127.0.0.1:{self.port}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, server: Server, *arguments: Any) -> None:
        self.offer = server
        super().__init__(*arguments)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        offer, wanted = self.offer, self.headers.get("Range", "")
        offer.asked.append((self.path, wanted))
        content = offer.files.get(self.path.strip("/"))
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and offer.ranges else 0
        if start >= len(content) and start:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if offer.sizes:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        part = content[start:]
        self.wfile.write(part[: offer.cut_after.pop(0)] if offer.cut_after else part)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("DSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    offer = Server({"file.gz": PACKED})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, offer)) as listening:
        offer.port = listening.server_port
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield offer
        listening.shutdown()
        thread.join()


def remote(server: Server, content: bytes = CONTENT, n_bytes: int = len(CONTENT)) -> Remote:
    checksum = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return Remote(server.url(), "file", f"md5:{checksum}", n_bytes)


def get(server: Server, **changes: Any) -> Path:
    (path,) = fetch("part", [remote(server, **changes)], hint='path = "FOLDER"')
    return path


def refused(server: Server, **changes: Any) -> str:
    with pytest.raises(UserError) as error:
        get(server, **changes)
    assert len(error.value.problems) == 1
    return str(error.value)


def test_a_file_is_fetched_once_and_kept_uncompressed(server: Server, tmp_path: Path) -> None:
    path = get(server)
    assert path == tmp_path / "cache" / "part" / "file"
    assert path.read_bytes() == CONTENT
    assert get(server) == path
    assert server.asked == [("/file.gz", "")]
    assert sorted(one.name for one in path.parent.iterdir()) == [".lock", "file"]


def test_nothing_is_written_to_the_terminal(server: Server) -> None:
    logger = pytest.importorskip("pooch").get_logger()
    written: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: written.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        get(server).write_bytes(b"damaged")
        get(server)
        assert written == []
        logger.info("heard")
        assert written == ["heard"], "as it was before"
    finally:
        logger.removeHandler(handler)


def test_a_kept_file_that_was_damaged_is_fetched_again(server: Server) -> None:
    get(server).write_bytes(b"damaged")
    assert get(server).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_cut_connection_is_continued_where_it_broke(server: Server) -> None:
    server.cut_after = [1000, 2000]
    assert get(server).read_bytes() == CONTENT
    assert server.asked == [("/file.gz", ""), ("/file.gz", "bytes=1000-"), ("/file.gz", "bytes=3000-")]


def test_a_later_call_continues_what_an_earlier_one_left(server: Server) -> None:
    server.cut_after = [500] + [0] * download.ATTEMPTS
    message = refused(server)
    assert "broke off" in message
    partial = Path(str(download.cache_folder("part"))) / "file.gz.part"
    assert partial.read_bytes() == PACKED[:500]
    server.asked.clear()
    assert get(server).read_bytes() == CONTENT
    assert server.asked == [("/file.gz", "bytes=500-")]
    assert not partial.exists()


def test_a_server_without_ranges_sends_everything_again(server: Server) -> None:
    server.cut_after, server.ranges = [1000], False
    assert get(server).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == ["", "bytes=1000-"]


def test_a_partial_file_that_does_not_belong_is_thrown_away(server: Server) -> None:
    partial = download.cache_folder("part") / "file.gz.part"
    partial.write_bytes(bytes(len(PACKED) // 2))
    assert get(server).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [f"bytes={len(PACKED) // 2}-", ""]


def test_a_partial_file_that_is_too_long_is_thrown_away(server: Server) -> None:
    partial = download.cache_folder("part") / "file.gz.part"
    partial.write_bytes(PACKED + b"more")
    assert get(server).read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(server: Server, tmp_path: Path) -> None:
    server.files["file.gz"] = gzip.compress(CONTENT[:-1] + b"x")
    message = refused(server)
    assert "cannot be downloaded" in message
    assert "hash" in message
    assert [one.name for one in (tmp_path / "cache" / "part").iterdir()] == [".lock"]


@pytest.mark.parametrize("packed", [b"no gzip", PACKED[:-9], PACKED[:50] + bytes(40) + PACKED[90:], b""])
def test_what_is_no_gzip_file_is_refused(packed: bytes, server: Server, tmp_path: Path) -> None:
    server.files["file.gz"] = packed
    assert "cannot be downloaded" in refused(server)
    assert not (tmp_path / "cache" / "part" / "file").exists()


def test_more_than_published_is_neither_downloaded_nor_unpacked(server: Server, tmp_path: Path) -> None:
    server.files["file.gz"] = gzip.compress(bytes(50_000_000))
    assert "hash" in refused(server), "unpacking ends at the published size, the checksum then differs"
    server.files["file.gz"] = bytes(range(256)) * 8000
    assert "larger than the 1000 bytes" in refused(server, n_bytes=1000)


def test_an_answer_without_a_length_is_taken_as_it_is(server: Server) -> None:
    server.sizes = False
    assert get(server).read_bytes() == CONTENT


def test_a_file_that_is_not_there_is_asked_for_once(server: Server) -> None:
    server.files.clear()
    assert "the server answers 404" in refused(server)
    assert len(server.asked) == 1


def test_offline_is_one_clear_error(server: Server, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    message = refused(Server(port=port))
    assert message.startswith("file: cannot be downloaded from http://127.0.0.1:")
    assert "no connection" in message
    assert f"uncompress it to {tmp_path / 'cache' / 'part' / 'file'}" in message
    assert 'path = "FOLDER"' in message


@pytest.mark.parametrize("url", ["file:///etc/hostname.gz", "ftp://127.0.0.1/a.gz", "nonsense"])
def test_only_http_is_followed(url: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no http address"):
        Resuming(10, pause_s=0)(url, str(tmp_path / "out"), None)
    assert list(tmp_path.iterdir()) == []


def test_two_downloads_at_once_fetch_once(server: Server) -> None:
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(get(server))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() for path in paths] == [CONTENT] * 3
    assert len(server.asked) == 1


def test_without_pooch_the_extra_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "find_spec", lambda name: None)
    assert "downloads need pooch; pip install 'tinyml-dse[train]'" in refused(server)


def test_fashion_mnist_is_fetched_by_its_four_checksums(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    sums = family(folder, names=tuple(fashion.MD5))
    server.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(fashion, "MD5", sums)
    monkeypatch.setattr(
        fashion, "N_BYTES", {path.stem: len(gzip.decompress(path.read_bytes())) for path in folder.iterdir()}
    )
    table = {"kind": "fashion-mnist", "url": server.url("").rstrip("/")}
    first, again = load_data(table), load_data(table)
    assert (first.name, first.input_shape, len(first.train)) == ("fashion-mnist", (1, 4, 5), 30)
    assert first.content_hash == again.content_hash
    assert sorted(path for path, _ in server.asked) == sorted(f"/{name}.gz" for name in sums)
    assert first.content_hash == load_data({"kind": "fashion-mnist", "path": str(folder)}).content_hash
