"""The prepared cache changes no pixel, trusts nothing that is damaged, and is filled once, whoever comes and whatever dies."""

import errno
import logging
import multiprocessing
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from conftest import composed, write_people
from PIL import Image
from test_loading import batches, equal

from humanseg import build
from humanseg.data import cache, files, photographs
from humanseg.data.prepared import VERSION


@pytest.fixture
def root(tmp_path):
    """Photographs of all kinds: large and small PNGs and JPEGs, one that lies on its side, one with a larger mask."""
    root = write_people(tmp_path / "people", 8, (200, 160))
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in (1, 2, 3):
        image = Image.open(root / "images" / f"00{number}.png")
        (root / "images" / f"00{number}.png").unlink()
        image.save(root / "images" / f"00{number}.jpg", quality=90)
    for part, name in (("images", "002.jpg"), ("masks", "002.png")):
        path = root / part / name
        Image.fromarray(np.rot90(Image.open(path)).copy()).save(path, exif=exif)
    for part in ("images", "masks"):  # smaller than the margin
        Image.open(root / part / "004.png").resize((16, 20), Image.Resampling.NEAREST).save(root / part / "004.png")
    mask = Image.open(root / "masks" / "003.png")
    mask.resize((320, 400), Image.Resampling.NEAREST).save(root / "masks" / "003.png")
    return root


def data(root, *overrides: str):
    cfg = composed(
        "data=folder", f"data.root={root}", "augment=portrait", "data.image_size=32", "data.num_workers=0",
        f"out={root.parent}/outputs", *overrides,
    )  # fmt: skip
    return build.data(cfg["data"] | {"batch_size": 4, "val_split": 2}, cfg["augment"], 1, cfg["seed"])


def first(root, *overrides: str) -> list:
    """Training batches of three passes and the validation batch."""
    found = data(root, *overrides)
    return [*batches(found, 0, 3), *found.eval_batches("val")]


@pytest.fixture
def prepared(monkeypatch):
    """The photographs that were decoded, in order."""
    seen = []
    real = photographs.read_shrunk

    def read_shrunk(path, *arguments):
        seen.append(os.path.basename(path))
        return real(path, *arguments)

    monkeypatch.setattr(photographs, "read_shrunk", read_shrunk)
    return seen


def stored(root) -> tuple:
    folder = root.parent / "outputs" / "cache"
    (pixels,), (index,) = folder.glob("*.pixels"), folder.glob("prepared*.index")
    return pixels, index


def test_pixels_are_the_same_with_and_without_the_cache(root, prepared):
    plain = first(root, "data.cache=false")
    assert not (root.parent / "outputs").exists()
    assert equal(plain, first(root))
    prepared.clear()
    assert equal(plain, first(root)) and not prepared
    for workers in (1, 2):
        assert equal(plain, first(root, f"data.num_workers={workers}"))


@pytest.mark.parametrize("recipe", ["none", "classic", "portrait"])
def test_every_recipe_takes_cached_photographs(root, recipe):
    assert equal(first(root, f"augment={recipe}", "data.cache=false"), first(root, f"augment={recipe}"))


def test_a_jpeg_at_a_reduced_scale_is_the_photograph(tmp_path):
    rows, columns = np.indices((800, 600))
    image = np.stack([rows / 4, columns / 3, (rows + columns) / 8], axis=2).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(image)).save(tmp_path / "a.jpg", quality=95, exif=exif)
    Image.fromarray((rows > 400).astype(np.uint8) * 255).save(tmp_path / "m.png")
    source = files.FilePairs([str(tmp_path / "a.jpg")], [str(tmp_path / "m.png")], "nonzero")
    full, mask = source[0]
    small, small_mask = source.prepared(0, 200)
    assert full.shape == (800, 600, 3) and small.shape == (200, 150, 3) and small_mask.shape == (200, 150)
    mean = full.reshape(200, 4, 150, 4, 3).mean((1, 3))
    assert np.abs(small - mean).max() < 4
    np.testing.assert_array_equal(small_mask, mask[2::4, 2::4])


@pytest.mark.parametrize("change", ["mtime", "content", "image_size", "mask"])
def test_what_has_changed_is_prepared_anew_and_nothing_else(root, prepared, change):
    first(root)
    prepared.clear()
    path, override, expected = root / "images" / "000.png", [], ["000.png"]
    if change == "mtime":
        os.utime(path, ns=(0, 0))
    elif change == "content":
        stamp = path.stat().st_mtime_ns
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path, compress_level=0)
        os.utime(path, ns=(stamp, stamp))
    else:
        override = [{"image_size": "data.image_size=64", "mask": "data.mask=half"}[change]]
        expected = sorted(file.name for file in (root / "images").iterdir())
    after = first(root, *override)
    assert sorted(prepared) == expected
    assert equal(after, first(root, *override, "data.cache=false"))


def flip(path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize("part", ["pixels", "offset", "height", "person", "crc", "key"])
def test_a_flipped_bit_is_noticed_and_mended(root, prepared, part):
    plain = first(root, "data.cache=false")
    first(root)
    pixels, index = stored(root)
    if part == "pixels":
        flip(pixels, pixels.stat().st_size // 2)
    else:
        flip(index, 3 * cache.ENTRY.itemsize + cache.ENTRY.fields[part][1])
    assert equal(plain, first(root))
    assert equal(plain, first(root))
    prepared.clear()
    assert equal(plain, first(root)) and not prepared


@pytest.mark.parametrize("which", [0, 1], ids=["pixels", "index"])
@pytest.mark.parametrize("left", [0.0, 0.55], ids=["all", "half"])
def test_a_truncated_file_is_filled_again(root, prepared, which, left):
    plain = first(root)
    path = stored(root)[which]
    os.truncate(path, int(path.stat().st_size * left))
    assert equal(plain, first(root))
    prepared.clear()
    assert equal(plain, first(root)) and not prepared


def fill_and_report(root, queue, waiting):
    logging.basicConfig(level=logging.INFO)
    calls, real, said = [], photographs.read_shrunk, []
    photographs.read_shrunk = lambda *arguments: calls.append(arguments) or real(*arguments)
    cache.log.info = lambda text, *values: (said.append(text), waiting.set() if "waits" in text else None)
    first(root)
    queue.put((len(calls), any("waits" in text for text in said)))


def test_two_processes_fill_it_once(root, monkeypatch):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    table = cache.Table(root.parent / "outputs" / "cache" / f"prepared_40px_v{VERSION}.index", cache.ENTRY)
    with table.alone():  # so that both come to wait
        come = [context.Event() for _ in range(2)]
        both = [context.Process(target=fill_and_report, args=(root, queue, waiting)) for waiting in come]
        for process in both:
            process.start()
        assert all(waiting.wait(60) for waiting in come)
    reports = sorted(queue.get(timeout=60) for _ in both)
    for process in both:
        process.join()
    assert reports == [(0, True), (8, True)]


def die_at(root, count: int):
    seen, real = [], cache.Table.add

    def add(self, records):
        real(self, records)
        seen.append(records)
        if self.record == cache.ENTRY and sum(map(len, seen)) >= count:
            os.kill(os.getpid(), signal.SIGKILL)

    cache.Table.add = add
    first(root)


def test_a_fill_that_was_killed_goes_on(root, prepared, monkeypatch):
    plain = first(root, "data.cache=false")
    monkeypatch.setattr(cache, "CHUNK", 2)
    process = multiprocessing.get_context("fork").Process(target=die_at, args=(root, 12))  # 8 were checked before
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with stored(root)[1].open("ab") as file:
        file.write(b"torn")
    prepared.clear()
    assert equal(plain, first(root)) and len(prepared) == 4


def test_the_cache_knows_where_people_are_without_reading_pixels(root, monkeypatch):
    for path in (root / "masks").iterdir():
        mask = (np.asarray(Image.open(path)) > 0).astype(np.uint8)
        mask[: len(mask) // 8] = 255
        Image.fromarray(mask * (path.name != "006.png")).save(path)
    found = data(root, "data.mask=1", "data.limit=5")
    found.samples("train")
    (prepared,) = found._prepared.values()
    indices = np.concatenate([found.splits[side].parts[0].indices for side in ("train", "val")])
    masks = [prepared[index][1] for index in indices]
    prepared.pixels = None
    shares = prepared.shares()
    np.testing.assert_allclose(shares.person[indices], [(mask == 1).mean() for mask in masks], rtol=1e-6)
    np.testing.assert_allclose(shares.ignored[indices], [(mask == 255).mean() for mask in masks], rtol=1e-6)
    assert np.isnan(shares.person).sum() == np.isnan(shares.ignored).sum() == 1
    assert (shares.person[indices] == 0).sum() == 1 and 0.1 < np.nanmax(shares.ignored) < 0.15


def test_the_same_pair_named_twice_is_kept_once(root, prepared):
    lines = [f"images/{name},masks/{name}\n" for name in ("005.png", "006.png")]
    (root / "list.txt").write_text("".join(lines * 5))
    overrides = ["data=pairs", f"data.pairs={root}/list.txt"]
    cfg = composed(*overrides, "data.image_size=32", "data.num_workers=0", f"out={root.parent}/outputs")
    batches(build.data(cfg["data"] | {"batch_size": 4, "val_split": 0}, None, 1, 0), 0, 2)
    assert sorted(prepared) == ["005.png", "006.png"]


def test_only_what_training_asks_for_is_prepared(root, prepared):
    first(root, "data.limit=4")
    assert len(prepared) == 4 + 2
    first(root)
    assert len(prepared) == 8


def test_too_little_space_is_one_sentence(root, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(ValueError, match=r"data.cache_dir=.* has 0.0 MB left, .* take about .*data.cache=false"):
        first(root)
    assert not stored(root)[0].stat().st_size


def test_a_disk_that_fills_up_keeps_what_is_whole_and_gets_the_rest_back(root, monkeypatch, prepared):
    whole, flush = first(root, "data.cache=false"), os.fsync
    calls = iter(range(2))

    def full(descriptor):
        if next(calls, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(cache, "CHUNK", 2)
        patch.setattr(os, "fsync", full)
        with pytest.raises(ValueError, match=r"data.cache_dir=.*No space left on device.*data.cache=false"):
            first(root)
    pixels, index = stored(root)
    records = np.fromfile(index, cache.ENTRY)
    assert len(records) == 4  # two chunks
    assert pixels.stat().st_size == records[-1]["offset"] + 4 * int(records[-1]["height"]) * int(records[-1]["width"])
    prepared.clear()
    assert equal(first(root), whole) and len(prepared) == 4


def test_a_folder_that_cannot_be_written_to_is_one_sentence(root):
    (root.parent / "file").write_text("")
    with pytest.raises(ValueError, match=r"data.cache_dir=.*file/cache can't be written to .*data.cache=false"):
        first(root, f"data.cache_dir={root.parent}/file/cache")


def test_a_photograph_that_vanishes_is_missed_at_a_start_only(root):
    found = data(root)
    plain = batches(found, 0, 3)
    (root / "images" / "000.png").unlink()
    assert equal(plain, batches(found, 0, 3))
    with pytest.raises(ValueError, match="masks/000.png has no image"):
        data(root)


def test_files_that_were_fine_are_not_opened_again(root, monkeypatch):
    data(root)
    opened = []
    monkeypatch.setattr(
        photographs, "check", lambda source, index: opened.append(os.path.basename(source.names[index]))
    )
    data(root)
    assert not opened
    os.utime(root / "masks" / "005.png", ns=(0, 0))
    data(root)
    assert opened == ["005.png"]
    data(root, "data.cache=false")
    assert len(opened) == 1 + 8


def test_files_with_problems_are_reported_each_time(root):
    (root / "masks" / "000.png").write_text("no picture")
    for _ in range(2):
        with pytest.raises(ValueError, match="000.png can't be read"):
            data(root)


def test_masks_of_another_size_are_counted_each_time(root, caplog):
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO, "humanseg"):
            data(root)
        assert "1 masks of another size" in caplog.text


class Own:
    """A user's own source."""

    names = [f"own {number}" for number in range(6)]

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full((50, 70, 3), index, np.uint8), np.ones((50, 70), np.uint8)


def own() -> dict:
    return {"train": Own()}


def test_a_source_of_ones_own_is_not_cached(tmp_path):
    cfg = composed("data.image_size=32", f"out={tmp_path}/outputs")["data"]
    cfg = {key: value for key, value in cfg.items() if key != "samples"} | {"_target_": "test_cache.own"}
    found = build.data(cfg | {"batch_size": 2, "val_split": 2, "num_workers": 0}, None, 1, 0)
    (images, masks), _ = batches(found, 0, 2)
    assert images.shape == (2, 32, 32, 3) and set(masks.unique().tolist()) == {1, 255}
    assert not (tmp_path / "outputs").exists()


def test_a_cache_survives_the_way_into_a_worker_that_is_not_forked(root):
    import pickle

    found = data(root)
    batches(found, 0, 1)
    (prepared,) = found._prepared.values()
    prepared.verified = torch.zeros(8, dtype=torch.bool)
    copy = pickle.loads(pickle.dumps(prepared))
    assert "pixels" not in prepared.__getstate__()
    for index in range(8):
        np.testing.assert_array_equal(copy[index][0], prepared[index][0])
