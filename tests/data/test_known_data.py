"""Data sets that are known by the MD5 of their files."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from delayplug.cli import app
from delayplug.data import find_splits, known_data, read_recordings
from delayplug.data.known_data import KNOWN_DATA, KnownData, KnownPart, Recognised, md5, recognise
from tests.recordings import recorded

NOBODYS = "0" * 32


@pytest.fixture
def known(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> KnownData:
    """A data set of two small files, mini_train.h5 and mini_test.h5, beside the real ones."""
    sums = {part: md5(write(f"mini_{part}.h5", labels=labels)) for part, labels in LABELS.items()}
    parts = {part: KnownPart(3, {".h5": checksum}) for part, checksum in sums.items()}
    made_up = KnownData("MINI", "three recordings", "For tests.", "CC0", "Nobody", "mini", parts)
    monkeypatch.setattr(known_data, "KNOWN_DATA", (*KNOWN_DATA, made_up))
    return made_up


LABELS = {"train": [1, 0, 1], "test": [0, 0, 1]}


def of_folder(folder: Path) -> Recognised:
    files = find_splits(folder)
    return recognise(files, {part: md5(path) for part, path in files.items()})


def info(folder: Path) -> str:
    """What the command prints on it, as one line."""
    args = ["data", "info", str(folder), "--plot", str(folder / "picture.png")]
    result = CliRunner().invoke(app, args, env={"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_known_wherever_it_lies(known: KnownData, tmp_path: Path) -> None:
    assert of_folder(tmp_path) == (known, ())
    text = info(tmp_path)
    assert f"MINI ({tmp_path.name})" in text
    assert "MINI: three recordings. For tests. Licence: CC0. Nobody." in text
    assert "warning" not in text


def test_files_without_a_name(write: Callable[..., Path], tmp_path: Path) -> None:
    write("own_train.h5")
    write("own_test.h5")
    assert of_folder(tmp_path) == (None, ())
    assert "Licence" not in info(tmp_path)


def test_a_file_of_another_data_set_under_a_known_name(known: KnownData, tmp_path: Path) -> None:
    """The checksum says what it is; the name is warned of, with both sums."""
    for part in LABELS:
        (tmp_path / f"mini_{part}.h5").rename(tmp_path / f"shdr_{part}.h5")
    data, warnings = of_folder(tmp_path)
    assert data == known
    assert len(warnings) == 2
    mine, theirs = known.parts["train"].checksums[".h5"], "2661eaed8d044fb1b44dac6cf0aafa05"
    assert warnings[0] == f"shdr_train.h5: expected the MD5 {theirs} of SHD-R, got {mine}, that of MINI's mini_train."
    text = info(tmp_path)
    assert f"MINI ({tmp_path.name})" in text
    assert f"warning: {warnings[0]}" in text


def test_a_file_of_nobody_under_a_known_name(known: KnownData, write: Callable[..., Path], tmp_path: Path) -> None:
    changed = md5(write("mini_test.h5", labels=[1, 1, 1]))
    data, (warning,) = of_folder(tmp_path)
    assert data is None
    mine = known.parts["test"].checksums[".h5"]
    assert warning == f"mini_test.h5: expected the MD5 {mine} of MINI, got {changed}, that of no known file."
    assert "Licence" not in info(tmp_path)


def test_parts_that_are_exchanged(known: KnownData, tmp_path: Path) -> None:
    for part, other in (("train", "new"), ("test", "train"), ("new", "test")):
        (tmp_path / f"mini_{part}.h5").rename(tmp_path / f"mini_{other}.h5")
    data, warnings = of_folder(tmp_path)
    assert data is None
    assert "that of MINI's mini_test" in warnings[0]
    for part in LABELS:
        (tmp_path / f"mini_{part}.h5").rename(tmp_path / f"own_{part}.h5")
    data, warnings = of_folder(tmp_path)
    assert data is None
    test = known.parts["test"].checksums[".h5"]
    assert warnings[0] == f"own_train.h5: expected train recordings, got the MD5 {test}, that of MINI's mini_test."


def test_parts_of_several_data_sets(known: KnownData, write: Callable[..., Path], tmp_path: Path) -> None:
    write("mini_test.h5", labels=[1, 1, 1])
    for part in LABELS:
        (tmp_path / f"mini_{part}.h5").rename(tmp_path / f"own_{part}.h5")
    data, warnings = of_folder(tmp_path)
    assert data is None
    assert warnings == ("The files are not those of one data set: train is MINI's mini_train, test is unknown.",)


def test_unpacked_files_are_known_by_their_archive(tmp_path: Path) -> None:
    """Of SHD only the sums of archives are published: a download notes which one a file was in."""
    files = {part: tmp_path / f"shd_{part}.h5" for part in LABELS}
    sums = {part: str(n) * 32 for n, part in enumerate(files)}
    archives = {f"shd_{part}.h5.zip": KNOWN_DATA[0].parts[part].checksums[".h5.zip"] for part in files}
    data, warnings = recognise(files, sums)
    assert data is None
    assert (
        "of SHD only the MD5 of archives is known, f3252aeb598ac776c1b526422d90eecb (shd_train.h5.zip)" in warnings[0]
    )
    assert f"got {sums['train']}, that of no known file" in warnings[0]
    assert "delayplug data download shd" in warnings[0]
    noted = {path.name: sums[part] for part, path in files.items()} | archives
    (tmp_path / known_data.DOWNLOADED).write_text(json.dumps(noted))
    assert recognise(files, sums) == (KNOWN_DATA[0], ())
    assert recognise(files, {**sums, "test": NOBODYS}).data is None  # replaced since
    (tmp_path / known_data.DOWNLOADED).write_text(json.dumps(noted | {"shd_test.h5.zip": NOBODYS}))
    assert recognise(files, sums).data is None  # a mirror's
    (tmp_path / known_data.DOWNLOADED).write_text("[]")
    assert recognise(files, sums).data is None


def test_a_part_that_a_data_set_does_not_have(tmp_path: Path) -> None:
    _, warnings = recognise({"valid": tmp_path / "shd_valid.h5.gz"}, {"valid": NOBODYS})
    assert warnings == (f"shd_valid.h5.gz: SHD has no valid file, got the MD5 {NOBODYS}, that of no known file.",)


def test_the_table_of_known_data_sets() -> None:
    sums = [each for data in KNOWN_DATA for part in data.parts.values() for each in part.checksums.values()]
    assert len(set(sums)) == len(sums)
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in sums)
    for names in ([data.name for data in KNOWN_DATA], [data.prefix for data in KNOWN_DATA]):
        assert len(set(names)) == len(names)
    numbers = {data.name: sum(part.recordings for part in data.parts.values()) for data in KNOWN_DATA}
    assert numbers == {"SHD": 10420, "SSC": 105829, "SHD-R": 10420, "SC10": 4074, "SFSD": 2400}


@pytest.mark.parametrize("name", ["SHD-R", "SC10", "SFSD"])
def test_recorded_data(name: str) -> None:
    data = next(each for each in KNOWN_DATA if each.name == name)
    folder = recorded(name)
    assert of_folder(folder) == (data, ())
    for part, path in find_splits(folder).items():
        assert len(read_recordings(path)) == data.parts[part].recordings


def test_the_documentation_lists_them() -> None:
    page = (Path(__file__).parents[2] / "docs" / "benchmark" / "protocols.md").read_text()
    for data in KNOWN_DATA:
        numbers = " / ".join(f"{part.recordings:,}" for part in data.parts.values())
        assert f"| {data.name} | " in page
        assert f"| {numbers} | {data.licence} |" in page


def test_the_description_fits_a_terminal() -> None:
    console = Console(width=80)
    with console.capture() as text:
        console.print(KNOWN_DATA[2].describe(), markup=False, highlight=False)
    assert "labelled SHD-R, never SHD" in " ".join(text.get().split())
