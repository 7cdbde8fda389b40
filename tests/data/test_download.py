"""Downloads from a server on this machine that breaks off, lies and refuses as real ones do."""

import gzip
import hashlib
import http.server
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from delayplug import ArgumentError, DataError
from delayplug.data import download as module
from delayplug.data.download import CHECKSUMS, download
from delayplug.data.known_data import downloaded

CONTENT = {"shd_train.h5": bytes(range(256)) * 40_000, "shd_test.h5": b"test" * 1000}


def packed(name: str, packing: str) -> bytes:
    if packing == "gz":
        return gzip.compress(CONTENT[name], mtime=0)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(name), CONTENT[name])
    return out.getvalue()


class Site:
    """A server of files: `breaks` holds after how many bytes each of the next answers stops."""

    def __init__(self) -> None:
        self.files = {f"{name}.{packing}": packed(name, packing) for name in CONTENT for packing in ("zip", "gz")}
        self.sums = {name: hashlib.md5(content).hexdigest() for name, content in self.files.items()}
        self.breaks: list[int] = []
        self.asked: list[tuple[str, str | None]] = []
        self.resumes = True
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name, wanted = self.path.rpartition("/")[2], self.headers.get("Range")
                site.asked.append((name, wanted))
                if name not in site.files:
                    self.send_error(404)
                    return
                content = site.files[name]
                start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and site.resumes else 0
                if start and start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                stop = site.breaks.pop(0) if site.breaks else len(content)
                self.wfile.write(content[start : start + stop])

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/datasets"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    found = Site()
    yield found
    found.close()


@pytest.mark.parametrize("packing", ["zip", "gz"])
def test_a_data_set_once(site: Site, tmp_path: Path, packing: str) -> None:
    seen: list[tuple[str, int, int | None]] = []
    options = {"url": site.url, "packing": packing, "checksums": site.sums, "progress": lambda *a: seen.append(a)}
    folder = download("shd", tmp_path, **options)
    assert folder == tmp_path / "shd"
    assert {path.name for path in folder.iterdir()} == {*CONTENT, "checksums.json"}
    for name, content in CONTENT.items():
        assert (folder / name).read_bytes() == content
        whole = len(site.files[f"{name}.{packing}"])
        assert (f"{name}.{packing}", whole, whole) in seen
        assert downloaded(folder)[f"{name}.{packing}"] == site.sums[f"{name}.{packing}"]
        assert downloaded(folder)[name] == hashlib.md5(content).hexdigest()
    asked = len(site.asked)
    assert download("shd", tmp_path, **options) == folder  # a second call does nothing
    assert len(site.asked) == asked


def test_a_mirror_by_environment(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.MIRROR, site.url + "/")
    download("shd", tmp_path, checksums=site.sums)
    assert (tmp_path / "shd" / "shd_train.h5").exists()


def test_a_broken_connection_is_taken_up_again(site: Site, tmp_path: Path) -> None:
    site.breaks = [3_000_000, 2_000_000]
    download("shd", tmp_path, url=site.url, checksums=site.sums)
    assert (tmp_path / "shd" / "shd_train.h5").read_bytes() == CONTENT["shd_train.h5"]
    starts = [wanted for name, wanted in site.asked if name == "shd_train.h5.zip"]
    assert starts[0] is None
    for wanted, most in zip(starts[1:], (3_000_000, 5_000_000), strict=True):
        assert wanted is not None
        assert most - 2 * 65536 < int(wanted[6:-1]) <= most  # the last packet of each connection can be lost


def test_a_site_that_goes_away_and_comes_back(site: Site, tmp_path: Path) -> None:
    site.breaks = [1_000_000] * 4
    with pytest.raises(DataError, match=r"expected shd_train.h5.zip, got no connection.*call again to go on"):
        download("shd", tmp_path, url=site.url, checksums=site.sums)
    folder = tmp_path / "shd"
    assert [path.name for path in folder.iterdir()] == ["shd_train.h5.zip.part"]
    download("shd", tmp_path, url=site.url, checksums=site.sums)
    name, wanted = site.asked[4]
    assert name == "shd_train.h5.zip"
    assert wanted is not None
    assert int(wanted[6:-1]) > 3_700_000
    assert (folder / "shd_train.h5").read_bytes() == CONTENT["shd_train.h5"]


def test_a_server_that_cannot_go_on(site: Site, tmp_path: Path) -> None:
    site.breaks, site.resumes = [3_000_000], False
    download("shd", tmp_path, url=site.url, checksums=site.sums)
    assert (tmp_path / "shd" / "shd_train.h5").read_bytes() == CONTENT["shd_train.h5"]


def test_a_part_that_is_whole_already(site: Site, tmp_path: Path) -> None:
    (tmp_path / "shd").mkdir()
    (tmp_path / "shd" / "shd_train.h5.zip.part").write_bytes(site.files["shd_train.h5.zip"])
    download("shd", tmp_path, url=site.url, checksums=site.sums)
    assert (tmp_path / "shd" / "shd_train.h5").read_bytes() == CONTENT["shd_train.h5"]


def test_a_wrong_checksum(site: Site, tmp_path: Path) -> None:
    sums = {**site.sums, "shd_train.h5.zip": CHECKSUMS["shd_train.h5.zip"]}
    with pytest.raises(DataError) as caught:
        download("shd", tmp_path, url=site.url, checksums=sums)
    for part in ("shd_train.h5.zip", sums["shd_train.h5.zip"], site.sums["shd_train.h5.zip"]):  # both sums by name
        assert part in str(caught.value)
    assert list((tmp_path / "shd").iterdir()) == []  # nothing that a second call would take for good


def test_an_unpacked_file_that_changed(site: Site, tmp_path: Path) -> None:
    folder = download("shd", tmp_path, url=site.url, checksums=site.sums)
    with (folder / "shd_test.h5").open("r+b") as file:
        file.write(b"TEST")
    with pytest.raises(DataError, match=r"shd_test.h5: expected MD5 \w{32}, got \w{32}. It has changed"):
        download("shd", tmp_path, url=site.url, checksums=site.sums)
    (folder / "shd_test.h5").unlink()
    download("shd", tmp_path, url=site.url, checksums=site.sums)
    assert (folder / "shd_test.h5").read_bytes() == CONTENT["shd_test.h5"]


def test_files_put_there_by_hand_are_left_alone(site: Site, tmp_path: Path) -> None:
    (tmp_path / "shd").mkdir()
    (tmp_path / "shd" / "shd_train.h5").write_bytes(b"mine")
    download("shd", tmp_path, url=site.url, checksums=site.sums)
    assert (tmp_path / "shd" / "shd_train.h5").read_bytes() == b"mine"
    assert "shd_train.h5" not in json.loads((tmp_path / "shd" / "checksums.json").read_text())


@pytest.mark.parametrize("content", [b"no archive", b"PK\x05\x06" + bytes(18)], ids=["not a zip", "empty zip"])
def test_not_an_archive(site: Site, tmp_path: Path, content: bytes) -> None:
    site.files["shd_train.h5.zip"] = content
    sums = {**site.sums, "shd_train.h5.zip": hashlib.md5(content).hexdigest()}
    with pytest.raises(DataError, match=r"shd_train.h5.zip: expected an archive of shd_train.h5, got"):
        download("shd", tmp_path, url=site.url, checksums=sums)
    assert list((tmp_path / "shd").iterdir()) == []


def test_no_such_file(site: Site, tmp_path: Path) -> None:
    del site.files["shd_train.h5.zip"]
    with pytest.raises(DataError, match=r"expected shd_train.h5.zip, got 404"):
        download("shd", tmp_path, url=site.url, checksums=site.sums)


def test_no_room_is_seen_before_anything_is_written(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(DataError, match=r"expected room for shd_train.h5.zip, got 1 MB free, 10 MB to come"):
        download("shd", tmp_path, url=site.url, checksums=site.sums)
    assert list((tmp_path / "shd").iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is something of Linux")
def test_a_disk_that_fills_up(site: Site, tmp_path: Path) -> None:
    (tmp_path / "shd").mkdir()
    (tmp_path / "shd" / "shd_train.h5.zip.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"No space left on device.*MB are free there.*Choose another --root"):
        download("shd", tmp_path, url=site.url, checksums=site.sums)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that not even root can write to")
def test_a_folder_that_cannot_be_written_to(site: Site) -> None:
    with pytest.raises(DataError, match=r"/proc/shd: expected a folder that can be written to"):
        download("shd", "/proc", url=site.url, checksums=site.sums)


def test_no_such_data_set(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="name: expected one of shd, ssc, got 'mnist'"):
        download("mnist", tmp_path)
    with pytest.raises(ArgumentError, match="packing: expected one in which ssc is offered: zip, got 'gz'"):
        download("ssc", tmp_path, packing="gz")


def test_every_file_of_the_site_has_a_checksum() -> None:
    assert {name for name in CHECKSUMS if name.endswith(".zip")} == {
        *(f"shd_{part}.h5.zip" for part in ("train", "test")),
        *(f"ssc_{part}.h5.zip" for part in ("train", "valid", "test")),
    }
    assert all(len(value) == 32 for value in CHECKSUMS.values())
