"""A run from another run's weights validates on what the other did not train on."""

from pathlib import Path

from conftest import TINY, run_into, saved

from humanseg.finetune import Origin, keep_split

ONE_EPOCH = [*TINY, "trainer.epochs=1"]


def test_it_keeps_the_split_of_the_run_before_unless_another_is_typed(run, tmp_path):
    before = run_into(tmp_path / "before", *ONE_EPOCH, "data.split_seed=5")
    held = saved(before)["samples"]["val"]
    done = run(*ONE_EPOCH, f"ckpt={before}", "seed=1")
    assert saved(done.folder)["samples"]["val"] == held and saved(done.folder)["config"]["data"]["split_seed"] == 5
    assert f"split      validates on the samples that {before}" in done.stdout
    done = run(*ONE_EPOCH, f"ckpt={before}", "data.split_seed=1")
    assert saved(done.folder)["samples"]["val"] != held and "may have been trained on some" in done.stdout


def kept(own: dict, before: dict, *typed: str) -> dict:
    plain = {"_target_": "a", "split_seed": 0, "val_split": 0.1, "test_split": 0, "duplicates": "together"}
    origin = Origin(Path("best.pt"), {"config": {"data": plain | before}})
    found = keep_split(plain | own, origin, [*typed])
    return {key: value for key, value in found.items() if value != plain[key]}


def test_what_is_kept_of_a_split():
    drawn = {"split_seed": 3, "val_split": 50, "test_split": 0.2, "duplicates": "ignore"}
    assert kept({}, drawn) == kept({}, drawn, "data=folder", "seed=1") == drawn
    assert kept({"val_split": 9}, drawn, "data.val_split=9") == {"split_seed": 3, "val_split": 9, "test_split": 0.2}
    assert kept({}, drawn | {"_target_": "b"}) == {}  # other data
    assert kept({}, drawn | {"val_split": "train"}) == {"split_seed": 3, "test_split": 0.2}
    assert kept({"val_split": "train"}, drawn)["val_split"] == "train"
