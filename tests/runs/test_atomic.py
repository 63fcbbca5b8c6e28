"""The one way to write a file: whole or not at all."""

import errno
import os

import pytest
import yaml

from humanseg.runs import atomic
from humanseg.runs.reading import read_yaml


def names(folder) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_file_is_there_when_it_is_whole(tmp_path):
    with atomic.replacing(tmp_path / "a") as temporary:
        temporary.write_text("half")
        assert not (tmp_path / "a").exists()
        temporary.write_text("whole")
    assert (tmp_path / "a").read_text() == "whole" and names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_after_an_exception_the_one_before_is_there_and_nothing_else(tmp_path, error):
    atomic.write_text(tmp_path / "a", "before")
    with pytest.raises(error), atomic.replacing(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise error
    assert (tmp_path / "a").read_text() == "before" and names(tmp_path) == ["a"]


def test_a_disk_that_is_full_is_an_oserror(tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        atomic.write_text(tmp_path / "a", "text")
    assert names(tmp_path) == []


def test_copies_are_there_before_and_the_one_before_is_kept(tmp_path, monkeypatch):
    atomic.write_text(tmp_path / "last", "one")
    seen, replace = [], os.replace
    monkeypatch.setattr(
        os, "replace", lambda source, path: (replace(source, path), seen.append(os.path.basename(path)))
    )
    with atomic.replacing(tmp_path / "last", [tmp_path / "best"], keep=tmp_path / "previous") as temporary:
        temporary.write_text("two")
    assert seen == ["best", "previous", "last"]
    assert [(tmp_path / name).read_text() for name in ("last", "best", "previous")] == ["two", "two", "one"]


def test_numbers_that_json_has_no_name_for_become_null(tmp_path):
    atomic.write_json(tmp_path / "a.json", {"x": float("nan"), "y": [1.5, float("inf")]})
    assert (tmp_path / "a.json").read_text() == '{\n  "x": null,\n  "y": [\n    1.5,\n    null\n  ]\n}\n'


def test_a_path_of_any_bytes_comes_back_from_a_record(tmp_path):
    told = {"root": os.fsdecode(b"/r\xe9 \xff\\\x80"), "other": "é\\"}
    atomic.write_text(tmp_path / "config.yaml", yaml.safe_dump(told))
    assert read_yaml(tmp_path / "config.yaml") == told
