"""Faults that are put into sound photographs are found, and sound ones are left in peace."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT, run_into

SHARED = ROOT.parent / "shared"
SOURCES = {"eg1800": 130, "ccp": 70}  # photographs of each, of 200
# Photographs of these whose masks are wrong in the data set itself, as was seen: corners of the background, a jacket left out.
WRONG = {"eg1800_02188", "eg1800_00291"}
WEIGHTS = SHARED / "weights" / "mobilenet_v2_imagenet.pth"

pytestmark = pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="there are no photographs in ../shared/data")


def seeded(root: Path) -> tuple[dict[str, str], set[Path]]:
    """A folder of 200 photographs, 40 faults by the name of their photograph, and the files that were taken.

    The faults: 8 masks that are swapped, 7 moved by 8 pixels and more, 4 emptied, 4 filled, 6 turned against their
    photograph, 4 with other values; 7 photographs are there again, smaller and as another JPEG.
    """
    rng, masks, taken, faults = np.random.default_rng(19), {}, set(), {}
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for source, count in SOURCES.items():
        files = sorted((SHARED / "data" / source / "images").iterdir())
        for place in np.linspace(0, len(files) - 1, count).astype(int):
            name = f"{source}_{files[place].stem}"
            shutil.copy(files[place], root / "images" / f"{name}.jpg")
            masks[name] = cv2.imread(str(files[place].parents[1] / "masks" / f"{files[place].stem}.png"), 0)
            taken.add(files[place])
    left = [sorted(masks)[place] for place in rng.permutation(len(masks))]

    def some(count: int, fault: str) -> list[str]:
        chosen = [left.pop() for _ in range(count)]
        faults.update(dict.fromkeys(chosen, fault))
        return chosen

    swapped = some(8, "swapped")
    for one, other in zip(swapped[::2], swapped[1::2], strict=True):
        sizes = masks[one].shape[::-1], masks[other].shape[::-1]
        masks[one], masks[other] = resized(masks[other], sizes[0]), resized(masks[one], sizes[1])
    for name in some(7, "moved"):
        reach, angle = rng.uniform(8, 24), rng.uniform(0, 2 * np.pi)
        move = np.float32([[1, 0, reach * np.cos(angle)], [0, 1, reach * np.sin(angle)]])
        masks[name] = cv2.warpAffine(masks[name], move, masks[name].shape[::-1], flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
    for name in some(4, "emptied"):
        masks[name][:] = 0
    for name in some(4, "filled"):
        masks[name][:] = 255
    for name, turn in zip(some(6, "turned"), 2 * (cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE, None), strict=True):
        masks[name] = cv2.flip(masks[name], 1) if turn is None else cv2.rotate(masks[name], turn)
    for name, value in zip(some(4, "values"), (1, 128, 200, 17), strict=True):
        masks[name] = np.minimum(masks[name], value)
    for name in [left.pop() for _ in range(7)]:
        photograph = cv2.imread(str(root / "images" / f"{name}.jpg"))
        scale = rng.uniform(0.6, 1)
        small = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        drop, again = left.pop(), f"again_{name}"  # it takes the place of another one, so there are 200
        (root / "images" / f"{drop}.jpg").unlink()
        del masks[drop]
        cv2.imwrite(str(root / "images" / f"{again}.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 95))])
        masks[again], faults[again] = resized(masks[name], small.shape[1::-1]), "again"
    for name, mask in masks.items():
        cv2.imwrite(str(root / "masks" / f"{name}.png"), mask)
    assert len(masks) == 200 and len(faults) == 40
    return faults, taken


def resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)


def suspects(folder: Path, faults: dict[str, str]) -> set[str]:
    """The photographs that errors and warnings are about; of a pair the faulty one, where one is."""
    found = set()
    for one in json.loads((folder / "check.json").read_text())["findings"]:
        names = [Path(path).stem for path in one["paths"]]
        if one["severity"] != "note":
            found |= {name for name in names if name in faults} or {*names}
    return found


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> tuple[Path, dict[str, str], set[Path]]:
    root = tmp_path_factory.mktemp("seeded") / "photographs"
    return root, *seeded(root)


def judge(found: set[str], faults: dict[str, str]) -> None:
    missed = {name: fault for name, fault in faults.items() if name not in found}
    assert len(missed) <= 2, missed
    healthy = found - {*faults} - WRONG
    assert len(healthy) <= 5, healthy


def test_faults_are_found_without_a_network(photographs, tmp_path):
    root, faults, _ = photographs
    folder = run_into(tmp_path / "check", "mode=check", "data=folder", f"data.root={root}", "data.val_split=40")
    judge(suspects(folder, faults), faults)


@pytest.mark.slow
def test_the_worst_disagreements_of_a_network_are_wrong_labels(photographs, tmp_path):
    root, faults, taken = photographs
    rest = tmp_path / "rest.txt"
    files = [
        file
        for source in SOURCES
        for file in sorted((SHARED / "data" / source / "images").iterdir())
        if file not in taken
    ]
    rest.write_text("".join(f"{file}, {file.parents[1] / 'masks' / file.stem}.png\n" for file in files))
    trained = run_into(
        tmp_path / "train", "experiment=portrait", "data=pairs", f"data.pairs={rest}", "data.image_size=128", "trainer.epochs=8",
        f"model.encoder_weights={WEIGHTS}", "callbacks=none", "trainer.test=false",
    )  # fmt: skip
    folder = run_into(tmp_path / "check", "mode=check", f"ckpt={trained}", "data=folder", f"data.root={root}")
    judge(suspects(folder, faults), faults)
    findings = json.loads((folder / "check.json").read_text())["findings"]
    worst = sorted(findings, key=lambda one: -one["numbers"].get("disagreement", 0))[:10]
    assert sum(Path(one["paths"][0]).stem in faults for one in worst) >= 8, worst
