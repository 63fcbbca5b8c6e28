"""A prepared cache in a stranger's folder leads to no other file, and takes no more memory than a cache of photographs."""

import os

import numpy as np
import pytest

from humanseg.compositing.results import BROKEN, Results
from humanseg.data.cache import ENTRY, MOST
from humanseg.data.prepared import VERSION, prepare_cache

STEM = f"prepared_32px_v{VERSION}"


class Squares:
    keys = np.array([1, 2, 3], np.uint64)

    def prepared(self, index: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((longest, longest, 3), np.uint8), np.zeros((longest, longest), np.uint8)


def opened(folder):
    return prepare_cache(Squares(), np.arange(3), 32, folder)


@pytest.mark.parametrize("name", ["index", "pixels", "lock"])
def test_a_link_in_a_cache_leads_nowhere(tmp_path, name):
    (tmp_path / "elsewhere").write_bytes(b"mine")
    os.utime(tmp_path / "elsewhere", (1, 1))
    (tmp_path / f"{STEM}.{name}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"data\.cache_dir=.* can't be written to"):
        opened(tmp_path)
    assert (tmp_path / "elsewhere").read_bytes() == b"mine" and (tmp_path / "elsewhere").stat().st_mtime == 1


@pytest.mark.parametrize("name", ["index", "pixels", "lock"])
def test_a_pipe_in_a_cache_makes_nobody_wait(tmp_path, name):
    os.mkfifo(tmp_path / f"{STEM}.{name}")
    with pytest.raises(ValueError, match=r"data\.cache_dir=.* can't be written to"):
        opened(tmp_path)


def test_a_table_of_absurd_size_is_not_read(tmp_path):
    with open(tmp_path / f"{STEM}.index", "wb") as file:
        file.truncate((MOST + 1) * ENTRY.itemsize)
    with pytest.raises(ValueError, match=r"\.index has .* delete it"):
        opened(tmp_path)


@pytest.mark.parametrize("offset", [-1, 0, 2**63 - 1])
def test_a_record_that_lies_is_read_from_its_photograph(tmp_path, offset):
    records = np.zeros(3, ENTRY)
    records["key"], records["offset"], records["height"], records["width"] = [1, 2, 3], offset, 2, 2
    (tmp_path / f"{STEM}.index").write_bytes(records.tobytes())
    (tmp_path / f"{STEM}.pixels").write_bytes(bytes(100))
    assert opened(tmp_path)[0][0].shape == (32, 32, 3)


def test_a_record_of_results_with_lines_of_other_things_is_refused(tmp_path):
    (tmp_path / ".drawn.jsonl").write_text("\n" * (BROKEN + 1))
    with pytest.raises(ValueError, match=r"\.drawn\.jsonl can't be read: it has more than"):
        Results(tmp_path)
