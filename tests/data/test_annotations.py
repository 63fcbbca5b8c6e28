"""What annotation tools write: Supervisely's projects, labelme's records, YOLO's polygons."""

import base64
import io
import json
import shutil
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ON_FILES, rows
from PIL import Image, ImageDraw

from humanseg.data.formats import figures
from humanseg.data.formats.labelme import labelme
from humanseg.data.formats.supervisely import supervisely
from humanseg.data.formats.yolo import yolo
from humanseg.data.photographs import Photographs

TURNED = 6  # EXIF: the photograph lies on its side in the file
HEIGHT, WIDTH = 48, 40
SQUARE = [[10, 12], [30, 12], [30, 32], [10, 32]]
HOLE = [[15, 17], [25, 17], [25, 27], [15, 27]]
META = {"classes": [{"title": name, "shape": kind} for name, kind in
                    (("person_bmp", "bitmap"), ("person_poly", "polygon"), ("neutral", "polygon"), ("dog", "any"))]}  # fmt: skip


def png(mask: np.ndarray) -> bytes:
    """A bitmap as Supervisely's library writes it: a palette, of which the first colour is transparent."""
    image, file = Image.fromarray(mask.astype(np.uint8)), io.BytesIO()
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(file, "PNG", transparency=0)
    return file.getvalue()


def bitmap(mask: np.ndarray, x: int = 0, y: int = 0, title: str = "person_bmp") -> dict:
    data = base64.b64encode(zlib.compress(png(mask))).decode()
    return {"classTitle": title, "geometryType": "bitmap", "bitmap": {"origin": [x, y], "data": data}, "points": None}


def polygon(exterior: list, *interior: list, title: str = "person_poly") -> dict:
    points = {"exterior": exterior, "interior": [*interior]}
    return {"classTitle": title, "geometryType": "polygon", "points": points, "bitmap": None}


def shape(points: list, kind: str = "polygon", label: str = "person", **more) -> dict:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def photograph(path: Path, orientation: int = 1) -> Path:
    """A grey photograph of 40 x 48 pixels upright, with an orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    size = (HEIGHT, WIDTH) if orientation == TURNED else (WIDTH, HEIGHT)
    Image.new("RGB", size, (90, 120, 60)).save(path, exif=exif)
    return path


def project(root: Path, objects: list[dict], orientation: int = 1, **record) -> Path:
    """A project of Supervisely's with one photograph."""
    photograph(root / "ds1" / "img" / "a.png", orientation)
    (root / "ds1" / "ann").mkdir()
    (root / "meta.json").write_text(json.dumps(META))
    record = {"size": {"height": HEIGHT, "width": WIDTH}, "tags": [], "objects": objects} | record
    (root / "ds1" / "ann" / "a.png.json").write_text(json.dumps(record))
    return root


def labelled(root: Path, shapes: list[dict], orientation: int = 1, **record) -> Path:
    """A folder with one photograph and labelme's record of it."""
    photograph(root / "a.png", orientation)
    record = {"version": "5.4.1", "imagePath": "a.png", "imageData": "AAAA", "imageHeight": HEIGHT,
              "imageWidth": WIDTH, "shapes": shapes} | record  # fmt: skip
    (root / "a.json").write_text(json.dumps(record))
    return root


def ultralytics(root: Path, lines: list[str], orientation: int = 1, names: str = "[person, dog]") -> Path:
    """A data set of Ultralytics' with one photograph."""
    photograph(root / "images" / "a.png", orientation)
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text(f"path: /elsewhere\nnames: {names}\n")
    return root


def line(points: list, number: int = 0) -> str:
    """A line of YOLO's, for points in pixels."""
    return " ".join([str(number), *(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in points)])


def filled(*rings: list) -> np.ndarray:
    """The first ring without the others, 1 or 0."""
    mask = cv2.fillPoly(np.zeros((HEIGHT, WIDTH), np.uint8), [np.array(rings[0])], 1)
    return cv2.fillPoly(mask, [np.array(ring) for ring in rings[1:]], 0) if rings[1:] else mask


def classes(opened: dict[str, Photographs | None], index: int = 0) -> np.ndarray:
    return opened["train"][index][1]


def outlines(mask: np.ndarray) -> list:
    return [ring[:, 0].tolist() for ring in cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]]


def as_supervisely(people: Path, root: Path) -> None:
    for part in ("img", "ann"):
        (root / "ds1" / part).mkdir(parents=True)
    (root / "meta.json").write_text(json.dumps(META))
    for number, image in enumerate(sorted((people / "images").iterdir())):
        mask = np.array(Image.open(people / "masks" / image.name)) > 0
        shutil.copy(image, root / "ds1" / "img")
        figure = bitmap(mask[5:, 3:], 3, 5) if number % 2 else polygon(outlines(mask.astype(np.uint8))[0])
        record = {"size": {"height": HEIGHT, "width": WIDTH}, "tags": [], "objects": [figure]}
        (root / "ds1" / "ann" / f"{image.name}.json").write_text(json.dumps(record))


def as_labelme(people: Path, root: Path) -> None:
    root.mkdir()
    for image in (people / "images").iterdir():
        mask = np.array(Image.open(people / "masks" / image.name))
        shutil.copy(image, root)
        record = {"imagePath": image.name, "imageData": None, "shapes": [shape(ring) for ring in outlines(mask)]}
        (root / f"{image.stem}.json").write_text(json.dumps(record))


def as_yolo(people: Path, root: Path) -> None:
    shutil.copytree(people / "images", root / "images")
    (root / "labels").mkdir()
    (root / "data.yaml").write_text("names: {0: dog, 1: person}\n")
    for image in (people / "images").iterdir():
        mask = np.array(Image.open(people / "masks" / image.name))
        middle = [[[x + 0.5, y + 0.5] for x, y in ring] for ring in outlines(mask)]
        (root / "labels" / f"{image.stem}.txt").write_text("\n".join(line(ring, 1) for ring in middle))


@pytest.mark.parametrize(
    ("name", "source", "write"),
    [("supervisely", supervisely, as_supervisely), ("labelme", labelme, as_labelme), ("yolo", yolo, as_yolo)],
)
def test_two_epochs_on_what_a_tool_wrote(people, tmp_path, run, name, source, write):
    write(people, tmp_path / "set")
    opened = source(str(tmp_path / "set"))["train"]
    for index in range(len(opened)):
        mask = np.array(Image.open(people / "masks" / Path(opened.names[index]).name)) > 0
        np.testing.assert_array_equal(opened[index][1], mask)
    folder = run(*ON_FILES, f"data={name}", f"data.root={tmp_path}/set").folder
    assert len(rows(folder)) == 2 and any((tmp_path / "outputs" / "cache").glob("prepared*.pixels"))


def test_supervisely_draws_bitmaps_at_their_origin_and_polygons_with_holes(tmp_path):
    bits = np.random.default_rng(0).random((9, 7)) > 0.5
    dog = polygon([[0, 0], [39, 0], [39, 47]], title="dog")
    root = project(tmp_path, [bitmap(bits, 31, 38), polygon(SQUARE, HOLE), dog])
    expected = filled(SQUARE, HOLE)
    expected[38:47, 31:38] |= bits
    np.testing.assert_array_equal(classes(supervisely(str(root))), expected)


def test_supervisely_neutral_areas_are_ignored_and_a_tag_ignores_the_background(tmp_path):
    figures = [polygon(SQUARE), polygon(HOLE, title="neutral")]
    area = filled(SQUARE) - filled(HOLE) + np.uint8(255) * filled(HOLE)
    np.testing.assert_array_equal(classes(supervisely(str(project(tmp_path / "a", figures)))), area)
    for name, tags in (("b", [{"name": "not-marked-people", "value": None}]), ("c", ["not-marked-people"])):
        tagged = classes(supervisely(str(project(tmp_path / name, figures, tags=tags))))
        np.testing.assert_array_equal(tagged, np.where(area == 0, 255, area))
    others = supervisely(str(project(tmp_path / "d", figures, tags=["multipart-person"])), ignored=[])
    np.testing.assert_array_equal(classes(others), filled(SQUARE))


def test_supervisely_records_of_older_projects(tmp_path):
    figures = [bitmap(np.ones((4, 4))), polygon(SQUARE)]
    root = project(tmp_path, [{key: value for key, value in one.items() if key != "geometryType"} for one in figures])
    (root / "ds1" / "ann" / "a.png.json").rename(root / "ds1" / "ann" / "a.json")
    expected = filled(SQUARE)
    expected[:4, :4] = 1
    np.testing.assert_array_equal(classes(supervisely(str(root))), expected)


@pytest.mark.parametrize(
    ("kind", "points", "draw"),
    [
        ("polygon", [[3.2, 4.7], [30.1, 9.9], [12.5, 40.4]], lambda draw, xy: draw.polygon(xy, 1, 1)),
        ("rectangle", [[30, 40], [10, 5]], lambda draw, xy: draw.rectangle([10, 5, 30, 40], 1, 1)),
        ("circle", [[20, 20], [20, 30]], lambda draw, xy: draw.ellipse([10, 10, 30, 30], 1, 1)),
        ("linestrip", [[3, 4], [30, 9], [12, 40]], lambda draw, xy: draw.line(xy, 1, 10, "curve")),
        ("point", [[20, 20]], lambda draw, xy: draw.ellipse([15, 15, 25, 25], 1, 1)),
    ],
)
def test_labelme_shapes_are_drawn_as_labelme_exports_them(tmp_path, kind, points, draw: Callable):
    canvas = Image.new("L", (WIDTH, HEIGHT))
    draw(ImageDraw.Draw(canvas), [tuple(point) for point in points])
    found = classes(labelme(str(labelled(tmp_path, [shape(points, kind)]))))
    assert found.any()
    np.testing.assert_array_equal(found, np.asarray(canvas))


def test_labelme_masks_holes_and_labels(tmp_path):
    bits = np.random.default_rng(0).random((9, 7)) > 0.5
    mask = shape([[31.4, 38], [37.4, 46]], "mask", mask=base64.b64encode(png(bits)).decode())
    shapes = [shape(SQUARE), shape(HOLE, label="_background_"), mask, shape([[0, 0], [9, 4]], "rectangle", "dog"),
              shape([[0, 40], [4, 47]], "rectangle", "__ignore__")]  # fmt: skip
    expected = filled(SQUARE, HOLE)
    expected[38:47, 31:38] |= bits
    expected[40:48, :5] = 255
    root = str(labelled(tmp_path, shapes))
    np.testing.assert_array_equal(classes(labelme(root)), expected)
    assert classes(labelme(root, labels=["dog"]))[:5, :10].all()


def test_labelme_finds_photographs_beside_records_or_by_their_path_in_the_folder(tmp_path, caplog):
    root = labelled(tmp_path / "set", [shape(SQUARE)], imagePath="named-otherwise-before.png")
    photograph(root / "photographs" / "b.jpg")
    photograph(root / "photographs" / "left.jpg")
    (root / "records").mkdir()
    record = {"shapes": [], "imagePath": "..\\photographs\\b.jpg"}
    (root / "records" / "b.json").write_text(json.dumps(record))
    (root / "records" / "other.json").write_text('{"kind": "of another program"}')
    with caplog.at_level("INFO", "humanseg"):
        found = labelme(str(root))["train"]
    assert [name[len(str(root)) :] for name in found.names] == ["/a.png", "/photographs/b.jpg"]
    assert not found[1][1].any()
    assert "passed over 1 photographs without a record" in caplog.text and "passed over 1 .json" in caplog.text
    (root / "records" / "b.json").write_text(json.dumps(record | {"imagePath": "../../secret.jpg"}))
    (root / "records" / "c.json").write_text(json.dumps(record | {"imagePath": "../gone.jpg"}))
    with pytest.raises(ValueError, match="b.json names ../../secret.jpg, which lies outside of ") as told:
        labelme(str(root))
    assert "c.json names ../gone.jpg, which does not exist" in str(told.value)


def test_yolo_fills_polygons_by_class(tmp_path):
    root = str(ultralytics(tmp_path, [line(SQUARE), "", line(HOLE, 1), "2 0.5 0.5 1 1"], names="[person, dog, box]"))
    np.testing.assert_array_equal(classes(yolo(root)), filled(SQUARE))
    for labels in (["dog"], [1]):
        np.testing.assert_array_equal(classes(yolo(root, labels=labels)), filled(HOLE))
    (tmp_path / "data.yaml").unlink()
    np.testing.assert_array_equal(classes(yolo(root, labels=[0, 1])), filled(SQUARE) | filled(HOLE))
    with pytest.raises(ValueError, match=r"data.yaml does not exist, which names person: give numbers"):
        yolo(root)
    with pytest.raises(ValueError, match=r"data.labels=\[7\]: nothing is labelled 7; the labels are 0, 1, 2"):
        yolo(root, labels=[7])


def test_yolo_photographs_without_a_text_file_or_with_an_empty_one_show_nobody(tmp_path):
    root = ultralytics(tmp_path, [line(SQUARE)])
    photograph(root / "images" / "bare.jpg")
    photograph(root / "images" / "empty.jpg")
    (root / "labels" / "empty.txt").touch()
    opened = yolo(str(root))
    assert [classes(opened, index).any() for index in range(3)] == [True, False, False]
    key = opened["train"].keys[1]
    (root / "labels" / "bare.txt").write_text(line(HOLE))
    later = yolo(str(root))
    assert later["train"].keys[1] != key and classes(later, 1).any()


@pytest.mark.parametrize("sides", ["folders", "lists"])
def test_yolo_splits_of_data_yaml(tmp_path, sides):
    for side, name in (("train", "a"), ("train", "b"), ("valid", "c"), ("test", "d")):
        photograph(tmp_path / side / "images" / f"{name}.jpg")
        (tmp_path / side / "labels").mkdir(exist_ok=True)
        if name != "c":
            (tmp_path / side / "labels" / f"{name}.txt").write_text(line(SQUARE))
        with (tmp_path / f"{side}.txt").open("a") as file:
            file.write(f"{'./' * (name == 'a')}{side}/images/{name}.jpg\n")
    places = {"folders": ["../train/images", "../valid/images", "test/images"], "lists": ["train.txt", "./valid.txt", "test.txt"]}  # fmt: skip
    names = dict(zip(("train", "val", "test"), places[sides], strict=True)) | {"names": ["person"]}
    (tmp_path / "data.yaml").write_text(json.dumps(names)[:-1] + ", date: 2023-01-05}")
    opened = yolo(str(tmp_path))
    assert not opened["val"][0][1].any() and opened["train"][1][1].any()
    assert {side: [Path(name).stem for name in one.names] for side, one in opened.items()} == {
        "train": ["a", "b"], "val": ["c"], "test": ["d"]}  # fmt: skip
    assert [Path(name).stem for name in yolo(None, None, str(tmp_path))["test"].names] == ["d"]
    with (tmp_path / "train.txt").open("a") as file:
        file.write("../secret.jpg\n")
    (tmp_path / "data.yaml").write_text(json.dumps(names | {"train": "train.txt", "val": "nowhere/images"}))
    with pytest.raises(ValueError, match="train.txt, line 3 names ../secret.jpg, which lies outside of ") as told:
        yolo(str(tmp_path))
    assert f"names nowhere/images, and {tmp_path} has no photograph there" in str(told.value)


WRITERS = {
    "supervisely": (supervisely, partial(project, objects=[polygon(SQUARE)])),
    "labelme": (labelme, partial(labelled, shapes=[shape(SQUARE)])),
    "yolo": (yolo, partial(ultralytics, lines=[line(SQUARE)])),
}


@pytest.mark.parametrize("name", WRITERS)
def test_figures_are_upright_as_their_tools_show_photographs(tmp_path, name):
    source, write = WRITERS[name]
    np.testing.assert_array_equal(classes(source(str(write(tmp_path, orientation=TURNED)))), filled(SQUARE))


def test_a_record_for_the_pixels_as_they_lie_is_turned_and_one_for_a_smaller_copy_is_resized(tmp_path):
    lying = [[12, WIDTH - 1 - 10], [32, WIDTH - 1 - 10], [32, WIDTH - 1 - 30], [12, WIDTH - 1 - 30]]
    root = labelled(tmp_path / "a", [shape(lying)], TURNED, imageWidth=HEIGHT, imageHeight=WIDTH)
    np.testing.assert_array_equal(classes(labelme(str(root)))[12:33, 10:31], 1)
    size = {"width": WIDTH // 2, "height": HEIGHT // 2}
    root = project(tmp_path / "b", [bitmap(np.ones((10, 10)), 5, 6)], size=size)
    np.testing.assert_array_equal(classes(supervisely(str(root))), np.pad(np.ones((20, 20)), ((12, 16), (10, 10))))
    with pytest.raises(ValueError, match="is 48x40, its photograph 40x48: another aspect ratio"):
        labelme(str(labelled(tmp_path / "c", [shape(HOLE)], imageWidth=HEIGHT, imageHeight=WIDTH)))


NAN, FAR = [*SQUARE[:3], [float("nan"), 5]], [*SQUARE[:3], [1e9, 5]]
WRONG = [
    ("project", [bitmap(np.ones((9, 9)), 35, 0)], "has a bitmap of 9x9 pixels at 35, 0, which leaves the photograph's 40x48"),
    ("project", [bitmap(np.ones((9, 9)), -1, 0)], "at -1, 0, which leaves the photograph"),
    ("project", [bitmap(np.ones((9, 9))) | {"bitmap": {"origin": [0, 0], "data": "AAAA"}}], "has a bitmap that can't be read"),
    ("project", [bitmap(np.ones((9, 9))) | {"bitmap": None}], "has no bitmap"),
    ("project", [polygon(SQUARE[:2])], "figure 1 has 2 points, and needs 3"),
    ("project", [polygon(SQUARE, HOLE[:2])], "has 2 points, and needs 3"),
    ("project", [polygon(NAN)], "has a point that is no number"),
    ("project", [polygon(SQUARE), polygon(FAR)], "figure 2 has a point at 1e\\+09, 5, far outside of 40x48 pixels"),
    ("project", [polygon(SQUARE) | {"geometryType": "line"}], r"\(person_poly\) is a line, and these are read: bitmap"),
    ("project", [polygon(SQUARE, title="cat")], "has the class cat, which meta.json does not name"),
    ("project", [5], "figure 1 is no record"),
    ("labelled", [shape(SQUARE[:2])], "a.json: figure 1 has 2 points, and needs 3"),
    ("labelled", [shape(NAN)], "has a point that is no number"),
    ("labelled", [shape([[1, "x"]] * 3)], "has points that are no pairs of numbers"),
    ("labelled", [shape(SQUARE, "star")], "is a star, and these are read: polygon"),
    ("labelled", [shape([[0, 0], [50, 50]], "mask", mask=base64.b64encode(png(np.ones((51, 51)))).decode())], "which leaves"),
    ("labelled", [shape(SQUARE, label=None)], "has no label"),
    ("labelled", [shape(SQUARE, label="cat")], r"data.labels=\['person'\]: nothing is labelled person; the labels are cat"),
    ("ultralytics", [line(SQUARE), line(SQUARE[:2])], "a.txt: line 2 has 4 numbers after its class, and a polygon has"),
    ("ultralytics", [line(SQUARE) + " 0.5"], "has 9 numbers after its class"),
    ("ultralytics", [line(NAN)], "has a point that is no number"),
    ("ultralytics", ["0 10 12 30 12 30 32"], "has points outside of 0 to 1"),
    ("ultralytics", [line(SQUARE, 2)], "begins with 2, which is no class; the classes are 0, 1"),
    ("ultralytics", ["person 0 0 0 1 1 1"], "begins with person, which is no class"),
    ("ultralytics", ["0 0 0 0 1 1 x"], "holds other things than numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "figures", "sentence"), WRONG)
def test_a_figure_that_cannot_be_drawn_is_one_sentence(tmp_path, layout, figures, sentence):
    write = {"project": project, "labelled": labelled, "ultralytics": ultralytics}[layout]
    source = {"project": supervisely, "labelled": labelme, "ultralytics": yolo}[layout]
    with pytest.raises(ValueError, match=sentence):
        source(str(write(tmp_path, figures)))


@pytest.mark.parametrize(
    ("source", "write", "figure"),
    [(supervisely, project, polygon), (labelme, labelled, shape), (yolo, ultralytics, line)],
)
def test_a_polygon_that_runs_to_and_fro_for_ever_is_refused(tmp_path, monkeypatch, source, write, figure):
    zigzag = [[x, y] for x in range(WIDTH) for y in (0, HEIGHT - 1)]
    root = str(write(tmp_path, [figure(SQUARE), figure(zigzag)]))
    monkeypatch.setattr(figures, "LONGEST", 10_000)
    source(root)
    monkeypatch.setattr(figures, "LONGEST", 1000)
    with pytest.raises(ValueError, match=r"2 has an outline of \d{4} pixels, and 1000 are drawn at most"):
        source(root)


@pytest.mark.parametrize("name", WRITERS)
def test_all_that_is_wrong_is_listed_at_once(tmp_path, name):
    source, write = WRITERS[name]
    root = write(tmp_path)
    (image,) = root.rglob("a.png")
    (record,) = (file for file in root.rglob("a.*") if file != image)
    for stem in "1234":  # they are read before a sound one
        shutil.copy(image, image.with_name(f"{stem}.png"))
        shutil.copy(record, record.with_name(record.name.replace("a", stem, 1)))
    for stem, damage in (("1", b'{"x": '), ("2", b"\xff\xfe\xfd"), ("3", b"{}")):
        record.with_name(record.name.replace("a", stem, 1)).write_bytes(damage)
    image.with_name("4.png").write_bytes(image.read_bytes()[:-30])
    with pytest.raises(ValueError, match="data: 4 problems") as told:
        source(str(root))
    assert all(f"/{stem}." in str(told.value) for stem in "1234") and "a.png" not in str(told.value)
    typed = {}
    if name == "yolo":  # its classes are then those that the files have
        (root / "data.yaml").unlink()
        typed = {"labels": [0]}
    kept = source(str(root), on_error="skip", **typed)["train"]
    assert {Path(kept.names[index]).stem for index in kept.broken} == {*"1234"}


def test_a_bitmap_that_unpacks_to_more_than_its_photograph_is_refused_before_it_does(tmp_path):
    bomb = base64.b64encode(zlib.compress(bytes(200_000_000), 9)).decode()
    figure = bitmap(np.ones((3, 3))) | {"bitmap": {"origin": [0, 0], "data": bomb}}
    wide = bitmap(np.ones((1, 60_000)))
    with pytest.raises(ValueError, match="it is no PNG; figure 2 has a bitmap of 60000x1 pixels"):
        supervisely(str(project(tmp_path, [figure, wide])))


def test_classes_that_are_not_there_are_told_with_those_that_are(tmp_path):
    root = str(project(tmp_path / "a", [polygon(SQUARE)]))
    with pytest.raises(ValueError, match="meta.json has no class human; it has person_bmp, person_poly, neutral, dog"):
        supervisely(root, labels=["human"])
    root = str(ultralytics(tmp_path / "b", [line(SQUARE)]))
    with pytest.raises(ValueError, match="data.yaml has no class human, 7; it has 0 person, 1 dog"):
        yolo(root, labels=["human", 7])
    with pytest.raises(ValueError, match="model.classes=3"):
        yolo(root, classes=3)


def test_photographs_and_records_without_each_other(tmp_path):
    root = project(tmp_path / "a", [polygon(SQUARE)])
    photograph(root / "ds2" / "img" / "b.png")
    (root / "ds1" / "ann" / "c.png.json").write_text("{}")
    with pytest.raises(ValueError, match="ds2/img/b.png has no annotation") as told:
        supervisely(str(root))
    assert "ds1/ann/c.png.json has no image" in str(told.value)
    for source in (supervisely, labelme, yolo):
        with pytest.raises(ValueError, match="data.root: nowhere does not exist"):
            source("nowhere")
        (tmp_path / source.__name__).mkdir()
        with pytest.raises(ValueError, match=r"data.root: .* holds no photograph|meta.json does not exist"):
            source(str(tmp_path / source.__name__))


def test_a_record_may_begin_with_the_mark_of_an_editor(tmp_path):
    root = labelled(tmp_path, [shape(SQUARE)])
    (file,) = root.glob("*.json")
    file.write_text(file.read_text(), encoding="utf-8-sig")
    np.testing.assert_array_equal(classes(labelme(str(root))), filled(SQUARE))


def test_a_changed_record_and_other_labels_are_prepared_anew(tmp_path):
    root = project(tmp_path, [polygon(SQUARE)])
    first = supervisely(str(root), cache_dir=str(tmp_path / "cache"))["train"].keys
    assert first == supervisely(str(root), cache_dir=str(tmp_path / "cache"))["train"].keys
    other = supervisely(str(root), labels=["person_poly"], unlabelled_tags=["crowd"])["train"].keys
    record = root / "ds1" / "ann" / "a.png.json"
    record.write_text(record.read_text() + " ")
    assert len({*first.tolist(), *other.tolist(), *supervisely(str(root))["train"].keys.tolist()}) == 3
