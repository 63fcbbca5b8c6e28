"""Masks as annotators and editors write them: values, ids, mattes, lossy files, and rules that don't fit are refused."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import HEIC, write_people
from PIL import Image

from humanseg.data import files
from humanseg.data.files import folder
from humanseg.data.masks import classes_of, read_mask, to_classes

CASES = Path(__file__).parents[3] / "shared" / "cases" / "masks"


def drawn(height: int = 48, width: int = 40) -> np.ndarray:
    """255 where a person is: on a quarter of the picture."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 255
    return mask


def soft(height: int = 48, width: int = 40) -> np.ndarray:
    """A matte: the person's edge is soft, and the background is not quite 0."""
    rows, columns = np.indices((height, width))
    inside = np.minimum.reduce([rows - 8, height - 9 - rows, columns - 8, width - 9 - columns])
    noise = np.random.default_rng(0).integers(0, 12, (height, width))
    return np.clip(inside * 60 + 128 + noise, noise, 255).astype(np.uint8)


def people(root: Path, masks: list, count: int = 4, suffix: str = "png", **how) -> Path:
    """A data folder whose masks are these, in turn."""
    write_people(root, count)
    for number in range(count):
        (root / "masks" / f"{number:03d}.png").unlink()
        mask = masks[number % len(masks)]
        image = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        image.save(root / "masks" / f"{number:03d}.{suffix}", **how)
    return root


def share(root: Path, rule) -> float:
    source = folder(str(root), mask=rule)["train"]
    return float(np.mean([(source[index][1] == 1).mean() for index in range(len(source))]))


# Rules


def test_rules_name_persons():
    values = np.array([0, 1, 15, 128, 255], np.uint8)
    assert to_classes(values, 15).tolist() == [0, 0, 1, 0, 255]
    assert to_classes(values, 255).tolist() == [0, 0, 0, 0, 1]
    assert to_classes(values, "from:128").tolist() == [0, 0, 0, 1, 1]
    assert to_classes(values, "from:1").tolist() == [0, 1, 1, 1, 1]
    assert to_classes(values, "inverted").tolist() == [1, 0, 0, 0, 0]
    assert to_classes(np.array([False, True]), "from:128").tolist() == [0, 1]
    assert to_classes(np.array([0, 300, 70_000]), "from:301").tolist() == [0, 0, 1]


@pytest.mark.parametrize("rule", ["half", "alpha", "inverted", "from:128", 15, [0, 15]], ids=str)
def test_the_same_people_by_every_rule(tmp_path, rule):
    shape = drawn()
    mask = {
        "alpha": np.dstack([np.full((48, 40, 3), 77, np.uint8), shape]),
        "inverted": 255 - shape,
        "15": shape // 17,
        "[0, 15]": shape // 17,
    }.get(str(rule), shape)
    assert share(people(tmp_path / "a", [mask]), rule) == (shape > 0).mean()


@pytest.mark.parametrize(
    "rule", ["person", "from:", "from:x", "from:0", "from:-3", -1, 1.5, [0, "a"], [[0], [1]], [0, 1, 2], None]
)
def test_what_is_no_rule_is_told_all_that_there_are(tmp_path, rule):
    with pytest.raises(ValueError, match="data.mask=.*: give nonzero, half, inverted, alpha, from:N") as error:
        folder(str(people(tmp_path / "a", [drawn()])), mask=rule)
    assert "\n" not in str(error.value)


def test_rules_are_typed_as_words_and_numbers(run, tmp_path):
    root = people(tmp_path / "a", [drawn() // 17], count=12)
    for rule in ("15", "from:9", "[0,15]"):
        run(
            "data=folder", f"data.root={root}", f"data.mask={rule}", "data.image_size=32", "data.batch_size=4",
            "data.val_split=4", "trainer.epochs=1", "trainer.steps_per_epoch=1", "callbacks=none", "data.num_workers=0",
        )  # fmt: skip


# Rules that don't fit


@pytest.mark.parametrize(
    ("values", "rule", "told"),
    [
        ((0, 1), "half", "values are 0, 1: data.mask=nonzero fits"),
        ((0, 1), "from:128", "values are 0, 1: data.mask=nonzero fits"),
        ((0, 1), 15, "values are 0, 1: data.mask=nonzero fits"),
        ((0, 255), 15, "values are 0, 255: data.mask=nonzero fits"),
        ((1, 2), "nonzero", r"everywhere.*values are 1, 2: data.mask=\[1,2\] where 2 is a person, data.mask=\[2,1\] where 1"),
        ((1, 2), "inverted", r"none of.*values are 1, 2: data.mask=\[1,2\]"),
        ((100, 255), "nonzero", "values are 100, 255: data.mask=half fits"),
    ],
    ids=str,
)  # fmt: skip
def test_a_rule_that_does_not_fit_is_refused_with_the_one_that_does(tmp_path, values, rule, told):
    mask = np.where(drawn() > 0, values[1], values[0]).astype(np.uint8)
    with pytest.raises(ValueError, match=told) as error:
        folder(str(people(tmp_path / "a", [mask])), mask=rule)
    assert "\n" not in str(error.value) and f"data.mask={rule}" in str(error.value)


@pytest.mark.parametrize("rule", ["half", "from:100"])
@pytest.mark.parametrize("others, advised", [([], 15), ([3], 15), ([3, 3], 3)])
def test_the_border_of_a_palettes_classes_is_no_person(tmp_path, rule, others, advised):
    """As in Pascal VOC: 15 is a person, 255 the border between classes, which is ignored."""
    mask = np.where(drawn() > 0, others[0] if len(others) == 2 else 15, 0).astype(np.uint8)
    mask[:4] = others[0] if others else 0
    mask[20:22, 5:30] = 255
    palette = Image.fromarray(mask)
    palette.putpalette([*range(256)] * 3)
    with pytest.raises(ValueError, match=rf"takes 255 for a person.*: data.mask={advised} where {advised} is a person"):
        folder(str(people(tmp_path / "a", [palette])), mask=rule)
    trimap = np.where(drawn() > 0, 255, 0).astype(np.uint8)
    trimap[20:22, 5:30] = 90
    folder(str(people(tmp_path / "b", [trimap])), mask=rule)


@pytest.mark.parametrize(
    ("values", "rule"),
    [((0, 0), "nonzero"), ((0, 0), "half"), ((0, 0), 15), ((7, 7), [7, 15]), ((0, 255), [255, 0]), ((0, 0), "from:9"),
     ((255, 255), "inverted"), ((0, 0), [0, 255])],
    ids=str,
)  # fmt: skip
def test_masks_of_nobody_are_fine_where_the_rule_names_their_values(tmp_path, values, rule):
    mask = np.where(drawn() > 0, values[1], values[0]).astype(np.uint8)
    folder(str(people(tmp_path / "a", [mask])), mask=rule)


def test_some_masks_of_nobody_or_of_persons_alone_are_fine(tmp_path):
    folder(str(people(tmp_path / "a", [drawn(), drawn() * 0, drawn() * 0 + 255])))
    folder(str(people(tmp_path / "b", [drawn() * 0 + 255], count=1)))
    with pytest.raises(ValueError, match="everywhere"):
        folder(str(people(tmp_path / "c", [drawn() * 0 + 255], count=16)))


# Mattes


def matte(colours: np.ndarray | int, alpha: np.ndarray) -> np.ndarray:
    return np.dstack([np.broadcast_to(np.array(colours, np.uint8), (*alpha.shape, 3)), alpha])


def test_an_alpha_that_varies_is_the_mask(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    for number, colours in enumerate((120, 0, 255, noise)):
        root = people(tmp_path / str(number), [matte(colours, drawn())])
        for rule in ("nonzero", "half", "alpha"):
            assert share(root, rule) == (drawn() > 0).mean()
        assert share(root, "inverted") == (drawn() == 0).mean()
    opaque = np.dstack([*[drawn()] * 3, np.full((48, 40), 255, np.uint8)])
    assert share(people(tmp_path / "opaque", [opaque]), "nonzero") == (drawn() > 0).mean()
    grey = Image.fromarray(np.dstack([drawn() * 0 + 9, drawn()]))
    assert share(people(tmp_path / "grey", [grey]), "nonzero") == (drawn() > 0).mean()


def test_a_person_where_the_rule_does_not_look_is_refused(tmp_path):
    hidden_in_alpha = Image.merge("LA", (Image.new("L", (40, 48), 0), Image.fromarray(drawn())))
    red_on_blue = np.where(drawn()[..., None] > 0, np.uint8([255, 0, 0]), np.uint8([0, 0, 255]))
    shades = np.where(soft() < 12, 0, soft())
    cases = {"ignored": (drawn(), [0, 1], "nonzero fits"), "shades": (shades, int(shades[8, 20]), "nonzero fits")}
    cases |= {"alpha": (hidden_in_alpha, "from:128", "nonzero fits")}
    cases |= {f"colours of {rule}": (red_on_blue, rule, "equally bright") for rule in ("nonzero", "half", "inverted")}
    for name, (mask, rule, advice) in cases.items():
        with pytest.raises(ValueError, match=advice):
            folder(str(people(tmp_path / name, [mask])), mask=rule)


@pytest.mark.parametrize("value", [1, 255, 65535])
@pytest.mark.parametrize("channels", [3, 4])
def test_masks_of_several_channels_of_16_bits_keep_their_values(tmp_path, value, channels):
    values = np.repeat((drawn()[..., None] // 255).astype(np.uint16) * value, channels, axis=2)
    values[..., 3:] = 65535
    cv2.imwrite(str(tmp_path / "a.png"), values)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png").values, values[..., 0])
    np.testing.assert_array_equal(classes_of(read_mask(tmp_path / "a.png"), "nonzero", "a"), drawn() > 0)


def test_alpha_and_colours_that_are_two_masks_are_refused_with_both_readings(tmp_path):
    other = np.roll(drawn(), 10, axis=1)
    root = people(tmp_path / "a", [matte(other[..., None], drawn())])
    with pytest.raises(ValueError, match="data.mask=alpha takes the alpha, and data.mask=from:N the colours"):
        folder(str(root))
    assert share(root, "alpha") == share(root, "from:128") == (drawn() > 0).mean()
    same = people(tmp_path / "b", [matte(drawn()[..., None], drawn())])
    assert share(same, "nonzero") == (drawn() > 0).mean()


def test_masks_without_alpha_are_named_where_it_is_asked_for(tmp_path):
    with pytest.raises(
        ValueError, match=r"4 problems(.|\n)*000.png has no transparency, which data.mask=alpha asks for"
    ):
        folder(str(people(tmp_path / "a", [drawn()])), mask="alpha")


def test_a_palette_keeps_its_numbers(tmp_path):
    image = Image.fromarray((drawn() // 17).astype(np.uint8)).convert("P")
    image.putpalette([number for number in range(256) for _ in range(3)])
    image.save(tmp_path / "m.png", transparency=0)
    mask = read_mask(tmp_path / "m.png")
    for rule in ("nonzero", 15, [0, 15]):
        np.testing.assert_array_equal(classes_of(mask, rule, "m"), drawn() > 0)


@pytest.mark.parametrize(
    "how", [("jpg", {"quality": 75}), ("jpg", {"quality": 30}), ("webp", {"quality": 50}), ("png", {})]
)
def test_the_noise_of_lossy_masks_and_of_mattes_is_no_person(tmp_path, how):
    suffix, options = how
    shape = (soft if suffix == "png" else drawn)(240, 200)
    Image.fromarray(shape).save(tmp_path / f"m.{suffix}", **options)
    found, truth = classes_of(read_mask(tmp_path / f"m.{suffix}"), "nonzero", "m") > 0, shape >= 128
    assert (found & truth).sum() / (found | truth).sum() > 0.995
    np.testing.assert_array_equal(classes_of(read_mask(tmp_path / f"m.{suffix}"), "inverted", "m") == 0, found)


def test_lossless_masks_and_numbers_of_people_are_no_mattes(tmp_path):
    Image.fromarray(drawn() // 255).save(tmp_path / "m.webp", lossless=True)
    np.testing.assert_array_equal(classes_of(read_mask(tmp_path / "m.webp"), "nonzero", "m"), drawn() > 0)
    persons = (np.indices((60, 200))[1] + 20).astype(np.uint8)  # 200 of them, numbered
    Image.fromarray(persons).save(tmp_path / "p.png")
    assert classes_of(read_mask(tmp_path / "p.png"), "nonzero", "m").all()


def test_a_lossy_mask_holds_no_ids(tmp_path):
    root = people(tmp_path / "a", [drawn()], suffix="jpg", quality=60)
    with pytest.raises(ValueError, match="lossy.*half"):
        folder(str(root), mask=255)
    with pytest.raises(ValueError, match="lossy.*data.mask=half"):
        folder(str(root), mask=[0, 255])


# Turned photographs


def turned(root: Path, size: tuple[int, int], orientation: int, stored: bool, exif_of_mask: bool = False) -> np.ndarray:
    """A photograph that EXIF turns and its mask, drawn upright or on the pixels as they are stored; the upright mask."""
    lying = drawn(*size)
    lying[: size[0] // 4, : size[1] // 4] = 255
    turns = {3: 2, 6: -1, 8: 1}
    upright = np.rot90(lying, turns[orientation]).copy()
    exif = Image.Exif()
    exif[0x0112] = orientation
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    Image.fromarray(np.dstack([lying] * 3)).save(root / "images" / "a.png", exif=exif.tobytes())
    how = {"exif": exif.tobytes()} if exif_of_mask else {}
    Image.fromarray(lying if stored else upright).save(root / "masks" / "a.png", **how)
    return upright > 0


@pytest.mark.parametrize("orientation", [6, 8])
@pytest.mark.parametrize(("stored", "exif_of_mask"), [(True, False), (False, False), (True, True)])
def test_masks_of_turned_photographs_are_turned_where_their_size_shows_it(
    tmp_path, caplog, orientation, stored, exif_of_mask
):
    upright = turned(tmp_path / "a", (48, 80), orientation, stored, exif_of_mask)
    with caplog.at_level("INFO", "humanseg"):
        source = folder(str(tmp_path / "a"))["train"]
        image, mask = source[0]
    np.testing.assert_array_equal(mask, upright)
    np.testing.assert_array_equal(image[..., 0] > 0, upright)
    small, small_mask = source.prepared(0, 40)
    assert small.shape[:2] == small_mask.shape == (40, 24) and ((small[..., 0] > 127) == small_mask).mean() > 0.95
    assert "either way" not in caplog.text and "upright" not in caplog.text


@pytest.mark.parametrize("suffix", ["tif", HEIC])
def test_a_photograph_that_its_decoder_turns_has_its_mask_turned_too(tmp_path, suffix):
    upright = turned(tmp_path / "a", (48, 80), 6, stored=True)
    photograph = tmp_path / "a" / "images" / "a.png"
    with Image.open(photograph) as image:
        image.save(photograph.with_suffix(f".{suffix}"), exif=image.getexif().tobytes(), quality=100)
    photograph.unlink()
    image, mask = folder(str(tmp_path / "a"))["train"][0]
    np.testing.assert_array_equal(mask, upright)
    assert ((image[..., 0] > 128) == upright).mean() > 0.99


@pytest.mark.parametrize(("size", "orientation"), [((48, 48), 6), ((48, 80), 3)])
def test_where_sizes_do_not_show_it_a_mask_is_upright_which_is_said_once(tmp_path, caplog, size, orientation):
    upright = turned(tmp_path / "a", size, orientation, stored=False)
    with caplog.at_level("INFO", "humanseg"):
        for _ in range(2):
            _, mask = folder(str(tmp_path / "a"), cache_dir=str(tmp_path / "cache"))["train"][0]
    np.testing.assert_array_equal(mask, upright)
    assert caplog.text.count("taken as upright") == 1


# Versions


def test_samples_that_an_earlier_version_read_otherwise_are_told(tmp_path):
    plain = folder(str(people(tmp_path / "plain", [drawn()])))["train"]
    assert plain.read_otherwise(range(4)) == ""
    mattes = folder(str(people(tmp_path / "matte", [drawn(), soft()])))["train"]
    assert "2 of 4 samples" in mattes.read_otherwise(range(4)) and "images/001.png" in mattes.read_otherwise(range(4))
    hidden = people(tmp_path / "hidden", [drawn()])
    Image.fromarray(matte(90, drawn())).save(hidden / "images" / "002.png")
    assert "1 of 4 samples" in folder(str(hidden))["train"].read_otherwise(range(4))


@pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} is not there")
def test_the_cases_of_public_reports():
    assert share(CASES / "alpha", "nonzero") == pytest.approx(0.28, abs=0.01)
    with pytest.raises(ValueError, match="values are 0, 1: data.mask=nonzero fits"):
        files.folder(str(CASES / "zero_one"), mask="half")
    assert share(CASES / "jpeg", "nonzero") == pytest.approx(0.28, abs=0.01)
    shape = share(CASES / "zero_one", "nonzero")
    assert shape == pytest.approx(share(CASES / "jpeg", "nonzero"), abs=1e-3)


@pytest.mark.parametrize("rule", [[0, 255], [0, 1], 255, 1, "nonzero", "half"])
def test_a_mask_of_one_bit_is_0_and_255_or_0_and_1_as_the_rule_has_it(tmp_path, rule):
    person = np.indices((8, 8))[1] > 4
    Image.fromarray(person).save(tmp_path / "a.png")
    np.testing.assert_array_equal(classes_of(read_mask(tmp_path / "a.png"), rule, "a.png"), person)


def test_a_list_that_misses_a_value_of_a_mask_of_two_is_told_the_one_that_fits():
    with pytest.raises(ValueError, match=r"\[1\], which .*=\[0, 255\] does not name: data.mask=\[0,1\] fits"):
        to_classes(np.uint8([[0, 1]]), [0, 255])
