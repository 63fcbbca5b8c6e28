"""data=voc, data=empty, data=matte: what each reads; and that each format trains."""

import cv2
import numpy as np
import pytest
from conftest import ON_FILES, PHOTOGRAPHS, broken_off, composed, experiments, rows, summary, write_people
from PIL import Image
from test_coco import BOX, annotation, write

from humanseg.data.formats.empty import empty
from humanseg.data.formats.matte import matte
from humanseg.data.formats.voc import voc
from humanseg.data.pictures import whole_size

SHARED = PHOTOGRAPHS.parent


def write_voc(root, count=12):
    """A folder as PASCAL VOC's, with a person, a dog and a void border in each mask."""
    write_people(root, count)
    (root / "images").rename(root / "JPEGImages")
    (root / "masks").rename(root / "SegmentationClass")
    for file in (root / "SegmentationClass").iterdir():
        ids = np.where(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) > 0, 15, 0).astype(np.uint8)
        ids[:4], ids[-4:] = 12, 255
        save_ids(ids, file)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    names = sorted(file.stem for file in (root / "JPEGImages").iterdir())
    for name, chosen in (("train", names[:-2]), ("val", names[-2:]), ("trainval", names)):
        (lists / f"{name}.txt").write_text("".join(f"{one}\n" for one in chosen))
    return root


def save_ids(ids, file):
    image = Image.fromarray(ids).convert("P")
    image.putdata(ids.ravel().tolist())
    image.putpalette([*range(256)] * 3)
    image.save(file)


def write_mattes(root, count=12, own=False):
    """Photographs with alpha that falls off over some pixels, beside them or as their own fourth channel."""
    write_people(root, count)
    (root / "alpha").mkdir()
    for file in (root / "masks").iterdir():
        alpha = cv2.GaussianBlur(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), (9, 9), 3)
        if own:
            photograph = cv2.imread(str(root / "images" / file.name))
            cv2.imwrite(str(root / file.name), np.dstack([photograph, alpha]))
        else:
            cv2.imwrite(str(root / "alpha" / file.name), alpha)
    if own:
        for part in ("alpha", "images", "masks"):
            for file in (root / part).iterdir():
                file.unlink()
            (root / part).rmdir()
    return root


def test_voc_has_the_indices_that_pillow_reads(tmp_path):
    sources = voc(root=str(write_voc(tmp_path / "a")), image_set="train", val_image_set="val")
    assert {side: source and len(source) for side, source in sources.items()} == {"train": 10, "val": 2, "test": None}
    for index in range(10):
        ids = np.asarray(Image.open(sources["train"].labels.names[index]))
        np.testing.assert_array_equal(sources["train"][index][1], np.where(ids == 255, 255, ids == 15))
    assert {*np.unique(ids).tolist()} == {0, 12, 15, 255}


def test_what_is_wrong_with_a_voc_folder_is_listed(tmp_path):
    root = write_voc(tmp_path / "a", 4)
    save_ids(np.full((48, 40), 21, np.uint8), root / "SegmentationClass" / "000.png")
    cv2.imwrite(str(root / "SegmentationClass" / "001.png"), np.full((48, 40, 3), (128, 128, 192), np.uint8))
    (root / "JPEGImages" / "002.png").unlink()
    (root / "ImageSets" / "Segmentation" / "trainval.txt").write_text("000\n001\n002\n003\n../../x\n")
    with pytest.raises(ValueError) as error:
        voc(root=str(root))
    told = str(error.value)
    assert "5 problems" in told and "000.png holds the values [21], and VOC's are 0 to 20" in told
    assert "001.png holds the values [192]" in told and "names 002, which" in told and told.count("names ../../x") == 2
    with pytest.raises(ValueError, match="data.val_image_set=tset: .*; the lists there are train, trainval, val"):
        voc(root=str(root), image_set="train", val_image_set="tset")
    with pytest.raises(ValueError, match="a/b/JPEGImages does not exist(.|\n)*SegmentationClass does not exist"):
        voc(root=str(root / "b"))


@pytest.mark.parametrize("own", [False, True])
def test_above_one_half_is_person_and_between_two_ends_is_ignored(tmp_path, own):
    root = str(write_mattes(tmp_path / "a", 2, own))
    source, sharp = matte(root=root)["train"], matte(root=root, ignore=None)["train"]
    found = cv2.imread(source.labels.names[0], cv2.IMREAD_UNCHANGED)
    alpha = (found[..., 3] if own else found) / 255
    person, unsure = alpha > 0.5, (alpha > 0.1) & (alpha < 0.9)
    assert unsure.any() and (unsure & person).any()
    np.testing.assert_array_equal(source[0][1], np.where(unsure, 255, person))
    np.testing.assert_array_equal(sharp[0][1], person)
    assert not (source.keys == sharp.keys).any()
    if not own:
        for file in [*(tmp_path / "a" / "alpha").iterdir()]:
            cv2.imwrite(str(file.with_suffix(".tiff")), cv2.imread(str(file), 0).astype(np.float32) / 255)
            file.unlink()
        floating = matte(root=root)["train"]  # from 0 to 1, as tools of matting write them
        np.testing.assert_array_equal(floating[0][1], np.where(unsure, 255, person))


def test_what_is_no_matte_is_listed(tmp_path):
    root = write_mattes(tmp_path / "a", 4)
    save_ids(np.full((48, 40), 15, np.uint8), root / "alpha" / "000.png")
    cv2.imwrite(str(root / "alpha" / "001.png"), np.eye(48, 40, dtype=np.uint8))
    cv2.imwrite(str(root / "alpha" / "002.png"), np.zeros((40, 48), np.uint8))
    with pytest.raises(ValueError) as error:
        matte(root=str(root))
    told = str(error.value)
    assert (
        "3 problems" in told and told.count("holds numbers of classes, and no grey") == 2 and "another aspect" in told
    )
    with pytest.raises(ValueError, match="12 problems(.|\n)*000.png has no transparency: data.alpha names the folder"):
        matte(root=str(write_people(tmp_path / "b", 12)))
    with pytest.raises(ValueError, match="b/mattes does not exist"):
        matte(root=str(tmp_path / "b"), alpha="mattes")
    assert matte(root=str(tmp_path / "b"), alpha="masks")["train"][0][1].max() == 1


def test_photographs_in_which_nobody_is_are_all_background(tmp_path):
    root = write_people(tmp_path / "a", 3)
    (root / "images" / "deeper").mkdir()
    (root / "images" / "000.png").rename(root / "images" / "deeper" / "a.png")
    found = empty(root=str(root), test_root=str(root / "images"))
    assert len(found["train"]) == len(found["test"]) == 3 and found["val"] is None
    assert [classes.shape for _, classes in found["train"]] == [(48, 40)] * 3
    assert not any(classes.any() for _, classes in found["train"])
    (root / "images" / "001.png").write_text("no picture")
    with pytest.raises(ValueError, match="001.png can't be read"):
        empty(root=str(root))
    with pytest.raises(ValueError, match="data.root: .*masks/b does not exist"):
        empty(root=str(root / "masks" / "b"))


FORMATS = {
    "folder": write_people,
    "coco": lambda root: write(root, [annotation(number, [BOX]) for number in range(9)], 12),
    "voc": write_voc,
    "matte": write_mattes,
    "empty": write_people,
}


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "folder"])
def test_each_format_trains_two_epochs_beside_photographs_without_people(run, tmp_path, name):
    root, nobody = FORMATS[name](tmp_path / "a"), write_people(tmp_path / "b")
    done = run(
        *(item for item in ON_FILES if "val_split" not in item),
        *("data=mix", "data.val_split=2"),
        *(f"+data@data.sources.own={name}", f"data.sources.own.root={root}"),
        *("+data@data.sources.nobody=empty", f"data.sources.nobody.root={nobody}"),
    )
    assert len(rows(done.folder)) == 2


@pytest.mark.parametrize("name", experiments(several=True))
def test_an_experiment_on_several_sources_trains_and_goes_on(run, tmp_path, name):
    small = [item for item in ON_FILES if "val_split" not in item and not item.startswith(("data=", "augment="))]
    short = ["data.val_split=2", "data.test_split=2", "trainer.epochs=1", "trainer.sizes=null"]
    typed = [*small, f"experiment={name}", *short]
    for source, node in composed(f"experiment={name}")["data"]["sources"].items():
        format = node["_target_"].rpartition(".")[2]
        if format in FORMATS:
            typed.append(f"data.sources.{source}.root={FORMATS[format](tmp_path / source)}")
        else:  # composed people
            typed.append(f"data.sources.{source}.samples=2")
    folder = run(*typed).folder
    assert "val/mean_iou" in rows(folder)[0] and summary(folder)["status"] == "completed"
    assert "goes on    from epoch 1, step 2" in run(f"resume={broken_off(folder)}").stdout


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not there")
@pytest.mark.parametrize(
    ("name", "folder"),
    [("coco", "coco"), ("coco", "coco_person"), ("voc", "voc"), ("matte", "cutouts"), ("empty", "scenes")],
)
def test_each_format_trains_two_epochs_on_the_shared_photographs(run, name, folder):
    done = run(*ON_FILES, f"data={name}", f"data.root={SHARED / folder}", "data.limit=16")
    assert len(rows(done.folder)) == 2


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not there")
def test_all_masks_of_the_shared_voc_folder_have_the_indices_that_pillow_reads():
    source = voc(root=str(SHARED / "voc"))["train"]
    for index, path in enumerate(source.labels.names):
        ids = np.asarray(Image.open(path))
        np.testing.assert_array_equal(source.labels.read(index, whole_size(path)), np.where(ids == 255, 255, ids == 15))
