"""Photographs and masks as people have them: formats, orientations, folders, lists, and what is wrong with them."""

import logging
import shutil

import numpy as np
import pytest
from conftest import write_people
from PIL import Image

from humanseg.data import files, keys, photographs
from humanseg.data.files import folder, pairs
from humanseg.data.masks import read_mask, to_classes
from humanseg.data.photographs import SHOWN
from humanseg.data.pictures import read_image

TURNED = 6  # EXIF: the camera was held upright, rotate by 90 degrees clockwise to view


def photograph(height: int = 6, width: int = 4) -> np.ndarray:
    """Red grows downwards, green to the right."""
    rows, columns = np.indices((height, width))
    return np.stack([rows * 40, columns * 60, np.full_like(rows, 90)], axis=2).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp"])
def test_colour_comes_back(tmp_path, suffix):
    Image.fromarray(photograph()).save(tmp_path / f"a.{suffix}", lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), photograph())


def test_grey_palette_and_16_bit_images_become_rgb(tmp_path):
    grey = photograph()[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(grey > 100).save(tmp_path / "bits.png")
    for name in ("grey", "deep", "palette"):
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.png"), np.dstack([grey] * 3), name)
    np.testing.assert_array_equal(read_image(tmp_path / "bits.png")[..., 1], (grey > 100) * 255)


def test_exif_orientation_is_honoured_for_photographs_and_masks(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = TURNED
    lying = np.rot90(photograph())  # as the sensor saw it; viewing it turned gives the photograph
    Image.fromarray(lying).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), photograph())
    Image.fromarray(lying[..., 0]).save(tmp_path / "m.png", exif=exif)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png").values, photograph()[..., 0])


def test_masks_keep_their_values(tmp_path):
    values = np.array([[0, 1, 2], [15, 254, 255]], np.uint8)
    palette = Image.fromarray(values).convert("L")
    palette = Image.frombytes("P", palette.size, values.tobytes())
    palette.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0] + [7] * 759)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "palette.png").values, values)
    Image.fromarray(np.dstack([values * 0, values, values * 0])).save(tmp_path / "green.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "green.png").values, values)
    Image.fromarray(values.astype(np.uint16) * 200).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "deep.png").values, values.astype(np.int64) * 200)


def test_mask_rules():
    values = np.array([0, 1, 127, 128, 255], np.uint8)
    assert to_classes(values, "nonzero").tolist() == [0, 1, 1, 1, 1]
    assert to_classes(values, "half").tolist() == [0, 0, 0, 1, 1]
    assert to_classes(np.array([0, 32767, 32896, 65535]), "half").tolist() == [0, 0, 1, 1]  # 16 bit
    assert to_classes(np.array([7, 15, 255, 7]), [7, 15]).tolist() == [0, 1, 255, 0]
    assert to_classes(np.array([0, 255]), [0, 255]).tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"m.png holds the values \[9\], which data.mask=\[7, 15\]"):
        to_classes(np.array([7, 9]), [7, 15], "m.png")


def test_folder_matches_by_stem_in_any_letter_case_of_the_suffix(tmp_path):
    root = write_people(tmp_path / "a", 3)
    (root / "images" / "000.png").rename(root / "images" / "000.PNG")
    Image.open(root / "images" / "001.png").save(root / "images" / "001.JPeG", "JPEG")
    (root / "images" / "001.png").unlink()
    (root / "images" / "notes.txt").write_text("not a photograph")
    found = folder(str(root))["train"]
    assert [name.rpartition("/")[2] for name in found.names] == ["000.PNG", "001.JPeG", "002.png"]
    image, mask = found[0]
    assert image.shape == (48, 40, 3) and set(np.unique(mask)) == {0, 1}


def test_folders_of_their_own_for_validation_and_test(tmp_path):
    roots = [str(write_people(tmp_path / name, count)) for name, count in (("a", 5), ("b", 3), ("c", 2))]
    assert {name: len(source) for name, source in folder(*roots).items()} == {"train": 5, "val": 3, "test": 2}
    assert folder(None, None, roots[2])["train"] is None


def test_a_mask_of_another_size_and_the_same_shape_is_resized_and_counted(tmp_path, caplog):
    root = write_people(tmp_path / "a", 2)
    mask = Image.open(root / "masks" / "000.png").resize((80, 96), Image.Resampling.NEAREST)
    mask.save(root / "masks" / "000.png")
    with caplog.at_level(logging.INFO, "humanseg"):
        source = folder(str(root))["train"]
    assert "1 masks of another size" in caplog.text
    np.testing.assert_array_equal(source[0][1], np.array(mask)[::2, ::2] > 0)


def test_a_mask_of_another_shape_is_an_error(tmp_path):
    root = write_people(tmp_path / "a", 2)
    Image.fromarray(np.zeros((48, 42), np.uint8)).save(root / "masks" / "000.png")
    with pytest.raises(ValueError, match="000.png is 42x48, its photograph 40x48: another aspect ratio"):
        folder(str(root))


def test_everything_that_is_wrong_is_listed_at_once(tmp_path):
    root = write_people(tmp_path / "a", 6)
    whole = (root / "images" / "001.png").read_bytes()
    (root / "images" / "001.png").write_bytes(whole[: len(whole) // 2])
    (root / "images" / "002.png").write_text("no picture")
    Image.open(root / "images" / "003.png").save(root / "images" / "003.jpg")
    (root / "images" / "003.png").unlink()
    jpeg = (root / "images" / "003.jpg").read_bytes()
    (root / "images" / "003.jpg").write_bytes(jpeg[:-200])
    (root / "masks" / "005.png").unlink()
    with pytest.raises(ValueError) as error:
        folder(str(root), str(tmp_path / "nowhere"))
    text = str(error.value)
    assert "6 problems" in text and all(f"{name} can't be read" in text for name in ("001.png", "002.png", "003.jpg"))
    assert "images/005.png has no mask" in text and "data.val_root: " in text


def test_images_without_masks_and_masks_without_images_are_listed_together(tmp_path):
    root = write_people(tmp_path / "a", 4)
    (root / "images" / "000.png").unlink()
    (root / "masks" / "003.png").unlink()
    shutil.copy(root / "images" / "001.png", root / "images" / "001.bmp")
    with pytest.raises(ValueError) as error:
        folder(str(root))
    text = str(error.value)
    assert "3 problems" in text and "shares its stem" in text
    assert "masks/000.png has no image" in text and "images/003.png has no mask" in text


def test_a_long_list_is_cut_and_counted(tmp_path):
    root = write_people(tmp_path / "a", SHOWN + 5)
    for file in (root / "masks").iterdir():
        file.unlink()
    with pytest.raises(ValueError) as error:
        folder(str(root))
    text = str(error.value)
    assert f"{SHOWN + 5} problems" in text and text.count("has no mask") == SHOWN and "... and 5 more" in text


def test_folders_that_are_missing_or_empty(tmp_path):
    with pytest.raises(ValueError, match="nowhere/images does not exist(.|\n)*nowhere/masks does not exist"):
        folder(str(tmp_path / "nowhere"))
    for part in ("images", "masks"):
        (tmp_path / "empty" / part).mkdir(parents=True)
    with pytest.raises(ValueError, match="empty/images holds no photograph"):
        folder(str(tmp_path / "empty"))


def test_ids_outside_of_the_classes_are_listed_before_training(tmp_path):
    root = write_people(tmp_path / "a", 3)
    Image.fromarray(np.full((48, 40), 9, np.uint8)).save(root / "masks" / "001.png")
    with pytest.raises(ValueError, match=r"001.png holds the values \[9\]"):
        folder(str(root), mask=[0, 255], classes=1)
    with pytest.raises(ValueError, match="a list with the value of each class, which are 3 with model.classes=3"):
        folder(str(root), mask=[0, 255], classes=3)


def test_pairs_are_relative_to_their_file_or_absolute_and_quoted(tmp_path):
    root = write_people(tmp_path / "a", 3)
    (root / "images" / "000.png").rename(root / "images" / "one, two and three.png")
    (root / "list.txt").write_text(
        f'"images/one, two and three.png", masks/000.png\n\n{root}/images/001.png,masks/001.png\n'
        '"images/002.png" , "masks/002.png"\n'
    )
    source = pairs(str(root / "list.txt"))["train"]
    assert [path.name for path, _ in source.paths] == ["one, two and three.png", "001.png", "002.png"]
    assert source[0][0].shape == (48, 40, 3)


def test_what_is_wrong_with_pairs(tmp_path):
    root = write_people(tmp_path / "a", 2)
    (root / "list.txt").write_text("images/000.png, masks/000.png\nimages/001.png\n")
    with pytest.raises(ValueError, match="line 2: expected `image, mask`"):
        pairs(str(root / "list.txt"))
    (root / "list.txt").write_text("images/000.png, masks/000.png\nimages/007.png, masks/007.png\n")
    with pytest.raises(ValueError, match="2 problems(.|\n)*images/007.png does not exist(.|\n)*masks/007.png"):
        pairs(str(root / "list.txt"))
    (root / "list.txt").write_text("\n")
    with pytest.raises(ValueError, match="holds no line"):
        pairs(str(root / "list.txt"))
    with pytest.raises(ValueError, match="no such file"):
        pairs(str(root / "other.txt"))


def test_long_lists_are_looked_at_by_processes_to_the_same_end(people, monkeypatch):
    images = [str(path) for path in sorted((people / "images").iterdir())] + [str(people / "gone.png")]
    masks = [str(path) for path in sorted((people / "masks").iterdir())] + [str(people / "gone.png")]
    whole = files.FilePairs(images, masks, "nonzero")
    monkeypatch.setattr(keys, "AT_ONCE", 5)
    parted = files.FilePairs(images, masks, "nonzero")
    assert parted.keys.tolist() == whole.keys.tolist() and len(set(whole.keys.tolist())) == 13
    assert parted.absent == whole.absent == {str(people / "gone.png"): "does not exist"}


def test_equal_photographs_are_known_by_their_content_and_it_is_remembered(people, tmp_path, monkeypatch):
    shutil.copy(people / "images" / "002.png", people / "images" / "copy.png")
    shutil.copy(people / "masks" / "001.png", people / "masks" / "copy.png")
    first = folder(str(people), cache_dir=str(tmp_path / "cache"))["train"]
    assert first.content[2] == first.content[-1] and len({*first.content.tolist()}) == 12
    monkeypatch.setattr(photographs, "digest", lambda path: pytest.fail("it is read again"))
    again = folder(str(people), cache_dir=str(tmp_path / "cache"))["train"]
    assert again.content.tolist() == first.content.tolist()
