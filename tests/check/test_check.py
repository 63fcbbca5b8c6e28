"""``mode=check``: whatever is wrong with a data set is found, and nothing stops the search."""

import json
import shutil
import signal
import weakref
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import ON_FILES, composed, rows, summary, write_people
from killing import finish

from humanseg import build
from humanseg.check import copies, disagree, judges, scan, table
from humanseg.check.facts import FACTS
from humanseg.data.cache import Table

DATA = ["data=folder", "data.image_size=32"]


def look(run, root: Path, *arguments: str) -> tuple[dict, list[tuple], str]:
    """Check a folder; check.json, the kind and the names of each finding, and what the terminal shows."""
    done = run("mode=check", *DATA, f"data.root={root}", *arguments)
    (folder,) = {Path(line.split(maxsplit=1)[1]) for line in done.stdout.splitlines() if line.startswith("run        ")}
    check = json.loads((folder / "check.json").read_text())
    assert (folder / "check.html").is_file()
    return check, [(one["kind"], *(Path(path).name for path in one["paths"])) for one in check["findings"]], done.stdout


def paint(root: Path, name: str, value: int) -> None:
    mask = cv2.imread(str(root / "masks" / name), 0)
    cv2.imwrite(str(root / "masks" / name), np.full_like(mask, value))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


@pytest.fixture
def people(tmp_path) -> Path:
    return write_people(tmp_path / "people", 24)


def test_what_training_refuses_is_found_and_stops_nothing(run, people):
    truncate(people / "images" / "003.png")
    (people / "masks" / "004.png").unlink()
    cv2.imwrite(str(people / "masks" / "005.png"), np.zeros((40, 90), np.uint8))
    check, found, shown = look(run, people)
    assert ("unreadable", "003.png") in found and ("unreadable", "005.png") in found
    (refused,) = [one["words"] for one in check["findings"] if one["kind"] == "refused"]
    assert refused == f"{people}/images/004.png has no mask"
    assert check["sources"][""]["broken"] == 2
    assert sum(check["sources"][""]["samples"].values()) == 23
    assert shown.index("unreadable") < shown.index("samples") and shown.count("images/003.png") == 1


def test_masks_that_differ_from_the_rest_are_found(run, people):
    paint(people, "001.png", 255)
    paint(people, "002.png", 0)
    mask = cv2.imread(str(people / "masks" / "007.png"), 0)
    cv2.imwrite(str(people / "masks" / "007.png"), mask // 255)
    check, found, _ = look(run, people)
    assert check["distributions"]["cut"]["counts"][""] == [23, 0, 0, 0, 1]  # the full one touches all four sides
    assert {("full", "001.png"), ("empty", "002.png"), ("values", "007.png")} <= {*found}
    assert not [
        one
        for one in found
        if one[0] in ("full", "empty", "values") and one[1] not in ("001.png", "002.png", "007.png")
    ]


def scene(seed: int) -> np.ndarray:
    """A picture that looks like no other, uint8 120x90x3."""
    noise = np.random.default_rng(seed).integers(0, 255, (12, 9, 3), dtype=np.uint8)
    return cv2.resize(noise, (90, 120), interpolation=cv2.INTER_CUBIC)


def test_a_photograph_in_training_and_validation_is_named_first_with_both_paths(run, tmp_path):
    roots = {"train": range(6), "val": range(3, 9)}  # three scenes are in both
    for name, seeds in roots.items():
        for part in ("images", "masks"):
            (tmp_path / name / part).mkdir(parents=True)
        for seed in seeds:
            size = 1.0 if name == "train" else 0.7
            small = cv2.resize(scene(seed), None, fx=size, fy=size, interpolation=cv2.INTER_AREA)
            mask = np.zeros(small.shape[:2], np.uint8)
            mask[10:40, 10:30] = 255
            cv2.imwrite(str(tmp_path / name / "images" / f"{name}{seed}.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, 60])
            cv2.imwrite(str(tmp_path / name / "masks" / f"{name}{seed}.png"), mask)
    places = [*DATA, f"data.root={tmp_path}/train", f"data.val_root={tmp_path}/val"]
    check, found, _ = look(run, tmp_path / "train", places[-1])
    twice = [("near_across", f"train{seed}.jpg", f"val{seed}.jpg") for seed in (3, 4, 5)]
    assert sorted(found[:3]) == twice and check["findings"][0]["severity"] == "error"
    assert [one for one in found if one[0].startswith(("near", "copy"))] == found[:3]

    done = run(*ON_FILES, *places, "data.batch_size=2", "data.drop_duplicates=true", "trainer.epochs=1")
    left = [(Path(row["path"]).name, row["why"], row["split"]) for row in rows(done.folder, "left_out.csv")]
    assert sorted(left) == [(f"train{seed}.jpg", "duplicate", "train") for seed in (3, 4, 5)]
    assert summary(done.folder)["samples"] == {"train": 3, "val": 6}


def written(root: Path, names: dict[str, np.ndarray], left: int = 10) -> Path:
    """A folder of photographs by name, each with a person of its own height from a column on."""
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for name, image in names.items():
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[10:60, left : left + 20] = 255
        cv2.imwrite(str(root / "images" / f"{name}.png"), image)
        cv2.imwrite(str(root / "masks" / f"{name}.png"), mask)
    return root


def test_a_mirror_image_of_a_photograph_that_is_held_back_is_found_and_does_not_train(run, tmp_path):
    scenes = {f"{seed}": scene(seed) for seed in range(8)}
    train = written(tmp_path / "train", scenes)
    turned = {f"held{seed}": scene(seed)[:, ::-1] for seed in (2, 5)} | {"other": scene(30)}
    val = written(tmp_path / "val", turned, left=60)  # mirrored, as the photographs are
    places = (f"data.root={train}", f"data.val_root={val}")
    check, found, _ = look(run, train, places[1])
    assert sorted(one for one in found if len(one) > 2) == [
        ("near_across", "2.png", "held2.png"),
        ("near_across", "5.png", "held5.png"),
    ]
    assert check["findings"][0]["words"].startswith("one looks like the mirror image of the other: ")
    assert check["findings"][0]["numbers"]["mask_iou"] == 1
    folder = run(*ON_FILES, *DATA, *places, "data.batch_size=2", "data.drop_duplicates=true", "trainer.epochs=1").folder
    assert sorted(Path(row["path"]).name for row in rows(folder, "left_out.csv")) == ["2.png", "5.png"]


def test_a_file_of_two_sources_is_told_with_both_and_has_both_masks_on_the_page(run, tmp_path):
    scenes = {f"{seed}": scene(seed) for seed in range(8)}
    one = written(tmp_path / "one", scenes)
    masks = written(tmp_path / "two", {"3": scene(3)}, left=40) / "masks"
    (tmp_path / "list.txt").write_text(f"{one}/images/3.png, {masks}/3.png\n")
    mix = [
        "data=mix",
        "+data@data.sources.mine=folder",
        f"data.sources.mine.root={one}",
        "data.sources.mine.val_split=0",
    ]
    mix += ["+data@data.sources.more=pairs", f"data.sources.more.pairs={tmp_path}/list.txt", "data.image_size=32"]
    done = run("mode=check", *mix, "data.sources.more.val_split=0")
    folder = Path(done.stdout.splitlines()[0].split(maxsplit=1)[1])
    (found,) = [one for one in json.loads((folder / "check.json").read_text())["findings"] if len(one["paths"]) == 2]
    assert found["kind"] == "contradiction"
    assert found["words"] == "the same file, of mine and of more; their masks have an IoU of 0.00"
    page = json.loads((folder / "check.html").read_text().split('id="data">')[1].split("</script>")[0])
    (sheet,) = [one for one in page["sheets"] if one["name"] == "contradiction"]
    shown = [page["photos"][number] for number in sheet["cards"][0]["photos"]]
    assert [one["source"] for one in shown] == ["mine", "more"]
    assert shown[0]["path"] == shown[1]["path"] and shown[0]["mask"] != shown[1]["mask"]

    done = run("mode=check", *mix, "data.sources.more.only=val")  # it validates in one source, so the other has it not
    folder = Path(done.stdout.splitlines()[0].split(maxsplit=1)[1])
    (found,) = [one for one in json.loads((folder / "check.json").read_text())["findings"] if len(one["paths"]) == 2]
    assert (found["kind"], found["words"][:46]) == ("contradiction", "the same file, val of more and unused of mine;")

    (tmp_path / "exclude.txt").write_text(f"{one}/images/3.png\n")
    (tmp_path / "too.txt").write_text("5\n")
    lists = f"data.exclude=[{tmp_path}/exclude.txt,{tmp_path}/too.txt]"
    train = [
        *ON_FILES,
        *mix,
        "data.sources.mine.val_split=2",
        "data.sources.more.val_split=0",
        "trainer.epochs=1",
        "data.batch_size=2",
    ]
    left = rows(run(*train, lists).folder, "left_out.csv")
    assert sorted((row["source"], Path(row["path"]).name) for row in left) == [
        ("mine", "3.png"),
        ("mine", "5.png"),
        ("more", "3.png"),
    ]


def test_a_check_that_was_stopped_goes_on_where_it_was(run, people, monkeypatch, tmp_path):
    arguments = ["mode=check", *DATA, f"data.root={people}", f"out={tmp_path}/outputs"]
    told = finish(tmp_path / "log", *arguments, at="humanseg.check.rules:findings", number=signal.SIGINT, code=130)
    assert "interrupted: mode=check takes no resume=, type the command again" in told
    monkeypatch.setattr(scan, "measure", lambda *_: pytest.fail("it has been measured already"))
    check, found, _ = look(run, people)
    assert sum(check["distributions"]["person"]["counts"][""]) == 24 and not [
        one for one in found if one[0] == "unreadable"
    ]


def test_training_that_follows_does_not_open_what_was_checked(run, people, monkeypatch):
    look(run, people)
    monkeypatch.setattr("humanseg.data.photographs.check", lambda *_: pytest.fail("it has been checked already"))
    run(*ON_FILES, *DATA, f"data.root={people}", "trainer.epochs=1", "data.cache=true")


def test_a_check_of_nothing_is_refused(run):
    assert "there are no photographs: set data.root" in run("mode=check", "data=folder", code=1).stderr


def test_people_that_are_drawn_are_no_copies_byte_for_byte():
    facts = np.zeros(2, FACTS)
    facts["width"] = facts["height"] = 64
    facts["hash"], facts["mirrored"] = [7, 15], 2**63
    store = SimpleNamespace(pictures=lambda _: (b"", b""))
    drawn = scan.Scanned("", SimpleNamespace(names=["drawn 0", "drawn 1"]), facts, {}, store)
    (found,) = copies.findings([drawn])
    assert (found.kind, found.words) == ("near", "they look the same: 1 of 64 bits of the hash differ")
    facts["hash"], facts["mirrored"] = [7, 2**60 - 1], [2**63, 15]  # the second one's mirror image is near the first
    (found,) = copies.findings([drawn])
    assert found.words == "one looks like the mirror image of the other: 1 of 64 bits of the hash differ"


def test_groups_on_both_sides_are_found(run, tmp_path):
    train, val = (write_people(tmp_path / name, 6) for name in ("train", "val"))  # of which some look like others
    for file in [*val.glob("*/003.png")]:
        file.rename(file.with_name("b_1.png"))
    for file in [*train.glob("*/003.png")]:
        file.rename(file.with_name("b_2.png"))
    _, found, _ = look(run, train, f"data.val_root={val}", r"data.group_by='(b)_\d+'")
    assert ("group_across", "b_2.png", "b_1.png") in found
    equal = {("b_2.png", "b_1.png"), *((f"00{number}.png", f"00{number}.png") for number in (0, 1, 2, 4, 5))}
    assert {one[1:] for one in found if one[0] == "copy_across"} == equal
    assert any(kind == "refused" for kind, *_ in found)  # training would not begin


def test_the_table_is_short_and_names_act_on_nothing(run, people):
    for number in range(8):
        truncate(people / "images" / f"{number:03d}.png")
    (people / "images" / "009.png").rename(people / "images" / "a\x1b[31m<b>.png")
    (people / "masks" / "009.png").rename(people / "masks" / "a\x1b[31m<b>.png")
    truncate(people / "images" / "a\x1b[31m<b>.png")
    check, _, shown = look(run, people)
    assert "\x1b" not in shown and len(shown.splitlines()) <= 25
    assert any("\x1b" in path for one in check["findings"] for path in one["paths"])  # the record has the name as it is


def test_the_table_of_many_sources_tells_how_many_more_there_are():
    sources = {f"s{number}": {"samples": {"train": number}} for number in range(20)}
    shown = table.rows({"sources": sources, "kinds": {}, "findings": []})
    assert shown[-2:] == ["s6: 6 train", "and 13 more sources"] and len(shown) <= table.MOST


def test_an_excluded_sample_is_left_out_and_the_others_keep_their_side(run, people, tmp_path):
    train = [*ON_FILES, *DATA, f"data.root={people}", "trainer.epochs=1"]
    before = run(*train).folder
    (tmp_path / "exclude.txt").write_text(f"{people}/images/002.png\n{people}/images/011.png\nelsewhere/x.png\n")
    after = run(*train, f"data.exclude={tmp_path}/exclude.txt").folder
    assert sum(summary(after)["samples"].values()) == sum(summary(before)["samples"].values()) - 2
    assert summary(after)["left_out"]["excluded"] == 2
    assert "may have learnt their mistakes" in run("mode=check", f"ckpt={after}").stdout
    paint(people, "002.png", 255)
    assert ("full", "002.png") in look(run, people)[1]
    assert ("full", "002.png") not in look(run, people, f"data.exclude={tmp_path}/exclude.txt")[1]
    done = run(*train, f"data.exclude={tmp_path}/none.txt", code=1)
    assert "data.exclude" in done.stderr and "Traceback" not in done.stderr


def test_files_that_break_are_skipped_counted_and_make_reports_careful(run, people, tmp_path):
    broken = people / "images" / "005.png"
    truncate(broken)
    train = [*ON_FILES, *DATA, f"data.root={people}", "trainer.epochs=1", "data.split_seed=1"]
    assert "005.png" in run(*train, code=1).stderr
    folder = run(*train, "data.on_error=skip").folder
    assert [(Path(row["path"]).name, row["why"]) for row in rows(folder, "left_out.csv")] == [("005.png", "broken")]
    shutil.rmtree(people / "images")
    shutil.rmtree(people / "masks")
    write_people(people, 24)
    run(*train)
    assert "left out other photographs" in run("mode=report", f"runs={tmp_path}/outputs/train").stdout


def test_a_run_goes_on_with_the_samples_that_it_began_with_whatever_breaks_or_is_mended(run, people):
    train = [*ON_FILES, *DATA, f"data.root={people}", "data.on_error=skip", "trainer.steps_per_epoch=6"]
    first = people / "images" / "005.png"
    whole = first.read_bytes()
    truncate(first)
    folder = run(*train, "trainer.epochs=1").folder
    first.write_bytes(whole)
    truncate(people / "images" / "007.png")
    truncate(people / "masks" / "009.png")
    done = run(f"resume={folder}", "trainer.epochs=2")
    assert "2 samples can't be read" in done.stdout + done.stderr
    left = sorted((Path(row["path"]).name, row["told"]) for row in rows(folder, "left_out.csv"))
    assert left == [("005.png", "could not be used when the run began"), ("007.png", ""), ("009.png", "")]


def test_the_others_keep_their_sides_however_many_files_break(people):
    def sides(**more) -> dict[str, str]:
        config = composed(*DATA, f"data.root={people}", "data.val_split=8", "data.test_split=3", "data.cache=false")
        splits = build.data(config["data"] | more, None, 1, 0).splits
        return {split.name(place): side for side, split in splits.items() for place in range(len(split))}

    before = sides()
    for number in range(3, 11):
        truncate(people / "images" / f"{number:03d}.png")
    after = sides(on_error="skip")
    assert len(after) == 16 and after.items() <= before.items()


@pytest.mark.parametrize("cache", ["true", "false"])
def test_a_file_that_breaks_while_training_runs_is_skipped(run, people, monkeypatch, cache):
    from humanseg.data.photographs import Photographs

    prepared = Photographs.prepared

    def breaks(self, index, longest=None):
        if self.names[index].endswith("007.png"):
            raise ValueError(f"{self.names[index]} can't be read: it broke")
        return prepared(self, index, longest)

    monkeypatch.setattr(Photographs, "prepared", breaks)
    train = [
        *ON_FILES,
        *DATA,
        f"data.root={people}",
        "trainer.epochs=1",
        "trainer.steps_per_epoch=6",
        f"data.cache={cache}",
    ]
    assert "it broke" in run(*train, code=1).stderr
    done = run(*train, "data.on_error=skip")
    assert "1 samples can't be read" in done.stdout + done.stderr
    assert [row["why"] for row in rows(done.folder, "left_out.csv")] == ["broken"]
    assert np.isfinite([float(row["val/iou"]) for row in rows(done.folder)]).all()


def test_each_photograph_is_judged_by_the_network_that_has_not_seen_it(run, people, monkeypatch, tmp_path):
    truncate(people / "images" / "003.png")
    for part in ("images", "masks"):
        shutil.copy(people / part / "000.png", people / part / "023.png")
    (tmp_path / "exclude.txt").write_text(f"{people}/images/005.png\n")
    without = [f"data.exclude={tmp_path}/exclude.txt", "data.on_error=skip"]
    run("-m", *ON_FILES, *DATA, f"data.root={people}", *without, "data.folds=2", "data.fold=0,1", "trainer.epochs=1")
    (sweep,) = (tmp_path / "outputs" / "multirun").glob("*/*")
    asked = []
    monkeypatch.setattr(disagree, "judge", lambda judges, folder: asked.extend(judges) or {})
    for more in ([], ["data.exclude=null"]):  # what a network has not seen is decided by its own run's list
        asked.clear()
        told = run("mode=check", f"ckpt={sweep}", *more).stdout
        assert told.count("there more than once") == 1  # however many networks there are
        assert "data.exclude=" in (last := told.splitlines()[-1]) and "what is ticked and saved" in last
        held = [{int(index) for _, indices in one.samples for index in indices} for one in asked]
        assert len(held) == 2 and held[0] | held[1] == {*range(24)} - {3, 5} and not held[0] & held[1]


def test_the_checkpoints_of_a_sweep_over_something_else_are_not_in_memory_together(tmp_path, monkeypatch):
    alive, most = weakref.WeakSet(), []

    def opened(file, *_):
        network = judges.Network(file, type("Payload", (), {})(), {"data": {}})
        alive.add(network.payload)
        most.append(len(alive))
        return network

    monkeypatch.setattr(judges, "_opened", opened)
    monkeypatch.setattr(judges.find, "checkpoint", lambda *_: tmp_path / "the winner's.pt")
    (tmp_path / "sweep.json").touch()
    for number in range(4):
        (tmp_path / f"{number}" / "checkpoints").mkdir(parents=True)
        (tmp_path / f"{number}" / "checkpoints" / "best.pt").touch()
        (tmp_path / f"{number}" / "summary.json").write_text("{}")
    assert len(judges.networks(str(tmp_path), {"out": ""}, [])) == 1
    assert len(most) == 5 and max(most) <= 2


def test_what_a_check_has_stored_is_used_again_unless_it_cannot_be(run, trained_once, tmp_path, monkeypatch):
    def look_again() -> tuple[dict, dict]:
        done = run("mode=check", f"ckpt={trained_once}", f"data.cache_dir={tmp_path}/cache")
        assert "may have learnt their mistakes" in done.stdout + done.stderr
        folder = Path(done.stdout.splitlines()[0].split(maxsplit=1)[1])
        page = (folder / "check.html").read_text().split('id="data">')[1].split("</script>")[0]
        return json.loads((folder / "check.json").read_text()), json.loads(page, parse_constant=pytest.fail)

    first, shown = look_again()
    assert first["checkpoint"] == str(trained_once) and first["kinds"]
    assert all(0 <= one["numbers"]["disagreement"] <= 1 and one["network"] for one in shown["photos"])
    for name, kind, lies in (
        ("check", FACTS, {"width": 0}),
        ("disagreements", disagree.DISAGREEMENT, {"score": np.nan, "edge": np.inf}),
    ):
        (file,) = (tmp_path / "cache").glob(f"{name}_v*.index")
        records = np.fromfile(file, kind)
        for field, value in lies.items():
            records[field] = value
        records.tofile(file)
    again, _ = look_again()
    assert again["findings"] == first["findings"]
    monkeypatch.setattr(Table, "alone", lambda _: pytest.fail("a cache that has all may be read-only"))
    assert look_again()[0]["findings"] == first["findings"]


def test_photographs_without_labels_are_not_held_against_them(run, people):
    unlabelled = people.parent / "unlabelled"
    shutil.copytree(people / "images", unlabelled)
    mix = ["data=mix", "+data@data.sources.any=unlabelled", f"data.sources.any.root={unlabelled}"]
    mix += ["+data@data.sources.mine=folder", f"data.sources.mine.root={people}", "data.sources.mine.val_split=0"]
    done = run("mode=check", *mix, "data.image_size=32")
    folder = Path(done.stdout.splitlines()[0].split(maxsplit=1)[1])
    kinds = {one["kind"] for one in json.loads((folder / "check.json").read_text())["findings"]}
    assert "copy" in kinds and not kinds & {"contradiction", "mostly_ignored", "empty", "full"}
