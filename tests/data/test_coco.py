"""data=coco: what an instances file draws is what pycocotools draws, and what is wrong with one is told at once."""

import contextlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import PHOTOGRAPHS
from PIL import Image
from pycocotools import mask as masks
from pycocotools.coco import COCO

from humanseg.data.formats import instances
from humanseg.data.formats.coco import coco
from humanseg.data.pictures import whole_size

SHARED = PHOTOGRAPHS.parent
SIZE = 30, 40  # height and width
BOX = [4, 4, 20, 4, 20, 20, 4, 20]


def region(*corners: int) -> np.ndarray:
    """uint8 HxW with a box: top, left, bottom, right."""
    top, left, bottom, right = corners
    drawn = np.zeros(SIZE, np.uint8, order="F")
    drawn[top:bottom, left:right] = 1
    return drawn


def rle(drawn: np.ndarray, compressed: bool = False) -> dict:
    """A region as an RLE."""
    if compressed:
        found = masks.encode(np.asfortranarray(drawn))
        return {"size": list(drawn.shape), "counts": found["counts"].decode()}
    flat = np.concatenate([[0], drawn.T.ravel(), [2]])
    ends = np.flatnonzero(np.diff(flat))
    counts = np.diff(ends, prepend=0).tolist()
    return {"size": list(drawn.shape), "counts": counts}


def annotation(image: int, segmentation: object, **others: object) -> dict:
    return {"image_id": image, "category_id": 1, "iscrowd": 0, "area": 200.0, "segmentation": segmentation} | others


def write(root: Path, drawn: list[dict], count: int = 3, file: str = "instances.json", **others: object) -> Path:
    """A folder as COCO's with photographs 000.png, ... of ids 0, ..."""
    folder = root / others.pop("folder", "images")
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)
    for number, photograph in enumerate(noise):
        Image.fromarray(photograph).save(folder / f"{number:03d}.png")
    images = [{"id": one, "file_name": f"{one:03d}.png", "height": SIZE[0], "width": SIZE[1]} for one in range(count)]
    names = ["person", "dog", "rider"]
    content = {
        "images": images,
        "annotations": [{"id": number} | one for number, one in enumerate(drawn, 1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
    }
    (root / file).parent.mkdir(exist_ok=True)
    (root / file).write_text(json.dumps(content | others))
    return root


def refused(root: Path, **options: object) -> str:
    with pytest.raises(ValueError) as error:
        coco(root=str(root), **options)
    return str(error.value)


def by_pycocotools(dataset: COCO, image: dict, categories: list[int]) -> np.ndarray:
    """The classes of a photograph by pycocotools' own masks."""
    expected = np.zeros((image["height"], image["width"]), np.uint8)
    found = dataset.loadAnns(dataset.getAnnIds(image["id"], catIds=categories))
    for one in sorted(found, key=lambda one: -one["iscrowd"]):
        expected[dataset.annToMask(one) > 0] = 255 if one["iscrowd"] else 1
    return expected


def opened(file: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(file))


def test_polygons_and_both_kinds_of_rle_are_drawn_as_by_pycocotools(tmp_path):
    generator, found = np.random.default_rng(1), []
    for image in range(12):
        for _ in range(3):
            outlines = [generator.uniform(-5, 45, 2 * corners).round(2).tolist() for corners in (3, 5, 8)]
            found.append(annotation(image, outlines, category_id=int(generator.integers(1, 4))))
        noise = cells(generator)
        found.append(annotation(image, rle(noise, compressed=image % 2 == 0), iscrowd=image % 3 // 2))
    root = write(tmp_path, found, 12)
    source, dataset = coco(root=str(root), categories=["person", 3])["train"], opened(root / "instances.json")
    seen = set()
    for (_, classes), image in zip(source, dataset.dataset["images"], strict=True):
        np.testing.assert_array_equal(classes, by_pycocotools(dataset, image, [1, 3]))
        seen |= {*np.unique(classes).tolist()}
    assert seen == {0, 1, 255}


def cells(generator: np.random.Generator) -> np.ndarray:
    return np.kron(generator.random((6, 8)) < 0.3, np.ones((5, 5))).astype(np.uint8)


def test_a_compressed_rle_has_the_runs_that_pycocotools_wrote():
    generator = np.random.default_rng(2)
    for _ in range(20):
        drawn = (generator.random((37, 201)) < generator.random()).astype(np.uint8)
        packed = rle(drawn, compressed=True)["counts"].encode()
        assert instances.decompressed(packed).tolist() == rle(drawn)["counts"]
    long = rle(np.pad(np.ones((1, 1), np.uint8), ((0, 4000), (0, 5000))), compressed=True)["counts"].encode()
    assert instances.decompressed(long).sum() == 4001 * 5001


@pytest.mark.parametrize("category", ["person", 1, ["rider", "person"]])
def test_a_person_on_a_crowd_wins_and_small_annotations_are_ignored(tmp_path, category):
    crowd = annotation(0, rle(region(0, 0, 30, 30)), iscrowd=1)
    small = annotation(1, [BOX], area=99)
    dog = annotation(2, [BOX], category_id=2)
    root = write(tmp_path, [annotation(0, [BOX]), crowd, small, dog], 4)
    source = coco(root=str(root), categories=category, min_area=100)["train"]
    inside, beside = (10, 10), (25, 25)
    assert [classes[inside] for _, classes in source] == [1, 255, 0, 0]
    assert [classes[beside] for _, classes in source] == [255, 0, 0, 0]
    assert coco(root=str(root), categories=category)["train"][1][1][inside] == 1
    dropped = coco(root=str(root), categories=category, empty="drop")["train"]
    assert [Path(name).name for name in dropped.names] == ["000.png", "001.png"]


@pytest.mark.parametrize("category", [1, "1", "person"])
def test_ids_may_be_written_in_several_ways(tmp_path, category):
    drawn = [annotation("0", [BOX], category_id=1.0, iscrowd="0"), annotation(1.0, [BOX], category_id="1")]
    source = coco(root=str(write(tmp_path, drawn)), categories=category)["train"]
    assert [classes.max() for _, classes in source] == [1, 1, 0]


def test_an_instances_file_is_read_once_until_it_changes(tmp_path, monkeypatch):
    root, cache_dir = (
        write(tmp_path, [annotation(0, [BOX]), annotation(1, rle(region(3, 3, 9, 9)))]),
        tmp_path / "cache",
    )
    first = coco(root=str(root), cache_dir=str(cache_dir))["train"]
    with monkeypatch.context() as patch:
        patch.setattr(instances.json, "loads", lambda data: pytest.fail("it is read again"))
        again = coco(root=str(root), cache_dir=str(cache_dir))["train"]
    assert isinstance(again.labels.index.numbers, np.memmap) and [*again.names] == [*first.names]
    assert again.keys.tolist() == first.keys.tolist()
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one[1], other[1])
    write(tmp_path, [annotation(0, [BOX]), annotation(1, [[1, 1, 9, 1, 9, 9]]), annotation(1, [[1.5, 1, 9, 1, 9, 9]])])
    changed = coco(root=str(root), cache_dir=str(cache_dir))["train"]
    assert changed[1][1][2, 8] == 1


def shortened(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def of_another_type(file: Path) -> None:
    np.save(file, np.zeros(3, np.int16))


def of_another_length(file: Path) -> None:
    np.save(file, np.load(file)[:0])


def a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def a_link(file: Path) -> None:
    file.rename(file.with_suffix(".moved"))
    file.symlink_to(file.with_suffix(".moved"))


@pytest.mark.parametrize("part", ["names", "photographs", "shapes", "numbers"])
@pytest.mark.parametrize("damage", [shortened, of_another_type, of_another_length, a_pipe, a_link])
def test_an_index_that_is_damaged_is_made_anew(tmp_path, part, damage):
    root, cache_dir = write(tmp_path, [annotation(0, [BOX])]), tmp_path / "cache"
    first = coco(root=str(root), cache_dir=str(cache_dir))["train"]
    (file,) = cache_dir.glob(f"instances_*_{part}.npy")
    damage(file)
    again = coco(root=str(root), cache_dir=str(cache_dir))["train"]
    assert again.keys.tolist() == first.keys.tolist() and again[0][1].any()
    assert not file.is_symlink() and np.load(file).dtype.kind != "i"


def test_only_photographs_whose_annotations_change_are_prepared_anew(tmp_path):
    before = write(tmp_path, [annotation(0, [BOX]), annotation(1, [BOX])])
    first = coco(root=str(before))["train"].keys
    moved = [annotation(1, [BOX], id=9), annotation(0, [[value + 1 for value in BOX]])]
    (before / "instances.json").write_text(
        json.dumps(json.loads((before / "instances.json").read_text()) | {"annotations": moved})
    )
    assert (coco(root=str(before))["train"].keys == first).tolist() == [False, True, True]


def test_photographs_are_found_in_the_layouts_that_people_have(tmp_path):
    own = write(
        tmp_path / "own", [annotation(0, [BOX])], file="annotations/instances_train2017.json", folder="train2017"
    )
    write(own, [annotation(1, [BOX])], 2, file="annotations/instances_val2017.json", folder="val2017")
    found = coco(root=str(own), val_annotations="annotations/instances_val2017.json")
    assert [len(found[side] or []) for side in ("train", "val", "test")] == [3, 2, 0]
    assert "train2017/000.png" in found["train"].names[0] and "val2017/000.png" in found["val"].names[0]
    alone = coco(test_annotations=str(own / "annotations" / "instances_val2017.json"))
    assert alone["train"] is None and len(alone["test"]) == 2
    (root := tmp_path / "deep").mkdir()
    deep = [{"id": 0, "file_name": "images/000.png", "height": SIZE[0], "width": SIZE[1]}]
    assert coco(root=str(write(root, [annotation(0, [BOX])], images=deep)))["train"][0][1].any()
    beside = write(tmp_path / "beside", [annotation(0, [BOX])], file="_annotations.coco.json", folder=".")
    assert len(coco(root=str(beside))["train"]) == 3
    named = coco(annotations=str(beside / "_annotations.coco.json"), images=str(own / "train2017"))["train"]
    assert "own/train2017" in named.names[0]


def test_annotations_follow_a_photograph_that_exif_turns(tmp_path):
    root = write(tmp_path, [annotation(0, [BOX])], 1)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(root / "images" / "000.png") as image:
        image.save(root / "images" / "000.png", exif=exif)  # 40x30 in its file, 30x40 upright
    lying = coco(root=str(root))["train"][0][1]
    assert lying.shape == (40, 30) and lying.sum() == np.rot90(lying, 1)[4:20, 4:20].sum() == 256


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([[4, 4, 20, 4]], "has 2 points, and needs 3"),
        ([[4, 4, 20, 4, 20]], "has a polygon of 5 numbers, and each point has two"),
        ([BOX, []], "has 0 points, and needs 3"),
        ([[4, 4, 20, float("nan"), 20, 20]], "a point that is no number"),
        ([[4, 4, 20, 1e300, 20, 20]], "a point at 20, 1e+300, far outside of 40x30 pixels"),
        (rle(np.ones((40, 30), np.uint8)), "an RLE of 30x40 pixels, where its photograph is 40x30"),
        ({"size": [30, 40], "counts": [10, 20]}, "an RLE whose runs don't add up to 40x30 pixels"),
        ({"size": [30, 40], "counts": [-10, 1210]}, "an RLE whose runs don't add up"),
        ({"size": [30, 40], "counts": "`"}, "a compressed RLE that is damaged"),
        ({"size": [30, 40], "counts": "oooooooooo0"}, "a compressed RLE that is damaged"),
        ({"size": [30, 40], "counts": "é"}, "a compressed RLE that is damaged"),
        ({"size": [30, 40], "counts": ""}, "a compressed RLE that is damaged"),
        ({"size": [30], "counts": []}, "an RLE without a size"),
        ({"size": [30, 40]}, "an RLE without counts"),
        ([], "has no segmentation: polygons or an RLE are needed"),
        (None, "has no segmentation"),
        ([[4, 4, 20, "4", 20, 20]], "a segmentation of other things than numbers"),
        ([[[4, 4], [20, 4], [20, 20]]], "a segmentation of other things than numbers"),
        ([[4, 4, 20, 10**400, 20, 20]], "a segmentation of other things than numbers"),
    ],
)
def test_what_is_wrong_with_a_shape_is_told_beside_all_others(tmp_path, segmentation, words):
    wrong = [annotation(0, segmentation), annotation(1, [BOX]), annotation(2, [[1, 1, 2, 2]])]
    for _ in range(2):
        told = refused(write(tmp_path, wrong), cache_dir=str(tmp_path / "cache"))
        assert "2 problems" in told and words in told and "annotation 3" in told and told.count("\n") == 2, told


def test_what_is_wrong_with_images_is_listed(tmp_path):
    images = [
        {"id": 40, "file_name": "x" * 1_000_000, "height": 30, "width": 40},
        {"id": 0, "file_name": "000.png", "height": 30, "width": 40},
        {"id": 0, "file_name": "001.png", "height": 30, "width": 40},
        *(
            {"id": 10 + at, "file_name": name, "height": 30, "width": 40}
            for at, name in enumerate(["gone.png", "/a.png"])
        ),
        *(
            {"id": 20 + at, "file_name": name, "height": 30, "width": 40}
            for at, name in enumerate(["a/../../b", "\ud800"])
        ),
        {"id": 30, "file_name": "002.png", "height": 30},
        {"id": 31, "file_name": "002.png", "height": 300, "width": 300},
        7,
    ]
    told = refused(write(tmp_path, [annotation(0, [BOX]), annotation(99, [BOX])], images=images))
    assert "9 problems" in told and len(told) < 10_000
    assert "000.png" not in told and "001.png, or its id 0, twice" in told
    assert f"{tmp_path}/images/gone.png does not exist" in told
    assert told.count("which lies outside of the folder of its photographs") == 3
    assert "image 7 needs an id, a file_name, a width and a height" in told and "image 9 needs" in told
    assert "002.png is 300x300, its photograph 40x30: another aspect ratio" in told


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"annotations": [annotation(0, [BOX], keypoints=[1, 2, 2])]},
            "has keypoints: data=coco needs an instances file",
        ),
        ({"annotations": [{"image_id": 0, "segments_info": [{"id": 1}]}]}, "has panoptic segments: data=coco needs"),
        ({"annotations": [{"image_id": 0, "caption": "a person"}]}, "annotation 0 has no category_id"),
        ({"annotations": {}}, "is no instances file: data=coco needs"),
        ({"categories": []}, "data.categories: .*has no person; it has none"),
        ({"categories": [{"id": 7, "name": "dog"}]}, r"has no person; it has dog \(7\)"),
        ({"annotations": []}, "has no annotation of person: data=empty"),
        ({"annotations": [7]}, "annotation 0 has no category_id"),
    ],
)
def test_files_of_another_kind_are_refused_with_what_is_needed(tmp_path, content, words):
    with pytest.raises(ValueError, match=words):
        coco(root=str(write(tmp_path, [annotation(0, [BOX])], **content)))


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"images": ' + "[" * 100_000, "\x00", '"images"'])
def test_a_file_that_is_no_json_object_is_one_sentence(tmp_path, text):
    root = write(tmp_path, [])
    (root / "instances.json").write_text(text)
    assert "instances.json" in refused(root) and refused(root).count("\n") == 1


def test_files_that_are_missing_or_several_are_told_by_their_keys(tmp_path):
    assert "has no instances.json and no annotations/instances_train*.json: name" in refused(tmp_path)
    for name in ("a.json", "b.json"):
        write(tmp_path, [], file=name)
    assert "has a.json, b.json: name the instances file by data.annotations" in refused(tmp_path)
    told = refused(tmp_path, annotations="c.json", val_annotations="a.json", val_images="nowhere")
    assert "data.annotations=c.json: no such file" in told and "data.val_images=nowhere: no such folder" in told
    with pytest.raises(ValueError, match="model.classes=3: these labels tell people from the background"):
        coco(root=str(tmp_path), classes=3)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not there")
@pytest.mark.parametrize(("folder", "count"), [("coco", 1391), ("coco_person", 50)])
def test_all_photographs_of_the_shared_folders_are_drawn_as_by_pycocotools(folder, count):
    source = coco(root=str(SHARED / folder))["train"]
    (file,) = (SHARED / folder).glob("*.json")
    dataset = opened(file)
    for index, image in enumerate(dataset.dataset["images"]):
        classes = source.labels.read(index, whole_size(source.names[index]))
        np.testing.assert_array_equal(classes, by_pycocotools(dataset, image, [1]), source.names[index])
    assert index == count - 1
