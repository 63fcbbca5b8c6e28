"""Composed people: the mask follows, nothing of the old background comes along, and all is a function of the seed."""

from array import array

import cv2
import numpy as np
import pytest
from conftest import TINY, composed, rows, write_people
from test_loading import batches, equal

from humanseg import build
from humanseg.config_rules import refuse_wrong_values
from humanseg.data.composing import composed as crowds
from humanseg.data.composing.composer import ComposeConfig, Composer, people_and_places
from humanseg.data.composing.cutouts import cut_out
from humanseg.data.outlines import without_outlines
from humanseg.data.splits.parts import Part, Split
from humanseg.data.transforms import IGNORE

PLAIN = ComposeConfig(p=1, moved=0, most=1, height=(0.5, 0.5), brightness=0, cast=0, shadow=0, soft=0)
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def person(size=(200, 160), centre=(80, 100), axes=(30, 70), colour=RED, behind=GREEN):
    """A person of one colour before another colour."""
    mask = cv2.ellipse(np.zeros(size, np.uint8), centre, axes, 0, 0, 360, 1, -1)
    return np.where(mask[..., None] == 1, colour, behind).astype(np.uint8), mask


def place(size=(240, 280), colour=BLUE):
    return np.full((*size, 3), colour, np.uint8), np.zeros(size, np.uint8)


def composer(*photographs, config=PLAIN) -> Composer:
    split = Split([Part(list(photographs), array("q", range(len(photographs))))])
    shown = [bool((mask == 1).any()) for _, mask in photographs]
    return Composer(config, split, np.flatnonzero(shown), np.flatnonzero(~np.array(shown)))


def test_the_mask_is_where_half_of_a_pixel_is_person_and_no_old_background_comes_along():
    make, seen = composer(person()), 0
    for seed in range(20):
        image, mask = make(*place(), np.random.default_rng(seed))
        share = image[..., 0].astype(int)
        assert image[..., 1].max() < 6
        assert (mask[share > 128] == 1).all() and (mask[share < 127] == 0).all()
        seen += int((mask == 1).sum() > 1000)
    assert seen == 20


def test_an_edge_that_was_drawn_too_far_outside_leaves_no_halo():
    image, mask = person()
    image, mask = composer((image, cv2.dilate(mask, np.ones((3, 3)))))(*place(), np.random.default_rng(0))
    assert image[..., 1].max() < 30


def test_ignored_edges_come_along_and_the_places_own_stay_where_nobody_covers_them():
    image, mask = person()
    wide = cv2.dilate(mask, np.ones((5, 5)))
    mask = np.where(wide != cv2.erode(mask, np.ones((3, 3))), IGNORE, mask).astype(np.uint8)
    mask[:20] = IGNORE  # another region, which is no edge
    ground, truth = place()
    truth[:, :140] = IGNORE
    found, labels = composer((image, mask))(ground, truth.copy(), np.random.default_rng(3))
    free = (found == BLUE).all(-1)
    np.testing.assert_array_equal(labels[free], truth[free])
    band = cv2.dilate((labels == 1).astype(np.uint8), np.ones((3, 3))) - (labels == 1)
    assert (labels == 1).any() and (labels[band > 0] == IGNORE).mean() > 0.9


@pytest.mark.parametrize("band", [1, 2, 5, 9])
def test_the_band_around_a_person_comes_along_whole(band):
    image, mask = person()
    mask = without_outlines(mask, band)
    found = cut_out(image, mask, np.random.default_rng(0), band)
    pieces, _ = cv2.connectedComponents((found.share > 0).astype(np.uint8))
    assert pieces == 2 and found.unsure.sum() > 0.95 * (mask == IGNORE).sum()


@pytest.mark.parametrize("side", ["bottom", "left", "right", "top"])
def test_whom_the_frame_cut_stays_at_the_frame(side):
    centre = {"bottom": (80, 190), "top": (80, 10), "left": (5, 100), "right": (155, 100)}[side]
    image, mask = person(centre=centre)
    cut = cut_out(image, mask, np.random.default_rng(0)).cut
    assert cut == {side}
    make = composer((image, mask), config=ComposeConfig(**{**vars(PLAIN), "height": (0.9, 0.9)}))
    for seed in range(12):
        _, labels = make(*place(), np.random.default_rng(seed))
        edges = {"bottom": labels[-1], "top": labels[0], "left": labels[:, 0], "right": labels[:, -1]}
        others = {"left": ("left", "right"), "right": ("left", "right")}.get(side, (side,))  # left may become right
        assert not labels.any() or max(edges[other].sum() for other in others) > 8


def test_a_person_wider_and_taller_than_the_place_covers_it():
    group = person(size=(200, 640), centre=(320, 150), axes=(300, 60))
    make = composer(group, config=ComposeConfig(**{**vars(PLAIN), "height": (4.0, 4.0)}))
    for seed in range(40):
        assert (make(*place((160, 60)), np.random.default_rng(seed))[1] == 1).mean() > 0.5


def test_touching_people_are_one_and_others_are_taken_one_at_a_time():
    both = person(centre=(40, 100))[1] | person(centre=(120, 100))[1]
    found = cut_out(np.zeros((200, 160, 3), np.uint8), both, np.random.default_rng(0))
    assert found.box()[2] == pytest.approx(60, abs=3)
    assert cut_out(np.zeros((200, 160, 3), np.uint8), person(axes=(3, 6))[1], np.random.default_rng(0)) is None


def test_smaller_people_stand_behind_a_person_who_was_there():
    close, truth = person(size=(240, 280), centre=(140, 200), axes=(90, 150), colour=BLUE)
    make = composer(person(), config=ComposeConfig(**{**vars(PLAIN), "most": 8, "height": (0.2, 0.2)}))
    image, mask = make(close, truth.copy(), np.random.default_rng(1))
    sure = cv2.erode(truth, np.ones((5, 5))) == 1
    assert (image[sure] == BLUE).all() and (mask[truth == 1] == 1).all() and mask.sum() > truth.sum()


def test_people_and_places_are_known_by_their_share():
    half = (np.zeros((10, 10, 3), np.uint8), np.repeat([[1], [0]], 5, 0) * np.ones((1, 10), np.uint8))

    class Source(list):
        def shares(self):
            class Known:
                person = np.array([0.5, np.nan, 0.01, 0], np.float32)

            return Known

    split = Split([Part(Source([None, half, None, None]), array("q", [0, 1, 2, 3]))])
    people, places = people_and_places(split, 0.02)
    assert people.tolist() == [0, 1] and places.tolist() == [3]


def test_the_share_grows_over_the_passes_of_the_ramp():
    config = ComposeConfig(p=0.5, ramp=4)
    assert [config.share(number) for number in (0, 1, 2, 4, 9)] == [0, 0.125, 0.25, 0.5, 0.5]
    assert ComposeConfig(p=0.5).share(0) == 0.5


def data(root, *overrides: str, recipe: str = "composed"):
    cfg = composed("data=folder", f"data.root={root}", f"augment={recipe}", "data.image_size=32", *overrides)
    return build.data(cfg["data"] | {"batch_size": 4, "val_split": 0}, cfg["augment"], 1, cfg["seed"])


@pytest.fixture
def root(tmp_path):
    """Twelve photographs with people, four of them without."""
    root = write_people(tmp_path / "people", 12)
    for number in range(4):
        cv2.imwrite(str(root / "masks" / f"00{number}.png"), np.zeros((48, 40), np.uint8))
    return root


def test_composed_batches_follow_from_their_number_for_any_number_of_workers_with_and_without_the_cache(root):
    alone = batches(data(root, "data.num_workers=0"), 0, 7)
    assert equal(alone[4:], batches(data(root, "data.num_workers=2", f"out={root.parent}/out"), 4, 7))
    assert not equal(alone[:3], alone[3:6])


def test_a_band_leaves_people_and_places_as_they_are_with_and_without_the_cache(root):
    def found(cache: bool, *more: str):
        lists = ["data=mix", "+data@data.sources.any=folder", f"data.sources.any.root={root}", "data.image_size=64"]
        cfg = composed(*lists, "augment=composed", f"out={root.parent}/out", f"data.cache={cache}", *more)
        return build.data(cfg["data"] | {"batch_size": 4, "val_split": 0}, cfg["augment"], 1, cfg["seed"])

    made = [found(False, "+data.sources.any.band=9"), found(True, "+data.sources.any.band=9"), found(True)]
    first, second, bare = (batches(one, 0, 4) for one in made)
    assert equal(first, second) and not equal(first, bare)
    drawn = [(one._composer.people.tolist(), one._composer.places.tolist()) for one in made]
    assert drawn[0] == drawn[1] == drawn[2] and len(drawn[0][1]) == 4


def test_samples_that_are_not_composed_keep_their_bits(root):
    plain = batches(data(root, recipe="portrait"), 0, 6)
    assert equal(plain, batches(data(root, "augment.compose.p=0"), 0, 6))
    assert equal(plain[:3], batches(data(root, "augment.compose.ramp=2"), 0, 3))  # the first pass
    mixed = batches(data(root), 0, 6)
    same = [(a == b).all() for (x, _), (y, _) in zip(plain, mixed, strict=True) for a, b in zip(x, y, strict=True)]
    assert 6 <= sum(same) <= 18


def test_a_source_that_never_trains_gives_people(root, tmp_path):
    for number in range(12):
        cv2.imwrite(str(root / "masks" / f"{number:03d}.png"), np.zeros((48, 40), np.uint8))
    others = write_people(tmp_path / "others", 6)
    lists = [f"data.root=[{root},{others}]", "data.weights=[1,0]"]
    _, masks = next(data(root, *lists, "augment.compose.p=1").train_batches(0, 1))
    assert ((masks == 1).flatten(1).any(1)).all()
    with pytest.raises(ValueError, match=r"augment.compose: no training photograph shows people .* give a source"):
        next(data(root).train_batches(0, 1))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("augment.compose.p=2", r"augment.compose.p=2: give a number from 0 to 1"),
        ("augment.compose.height=[1,0.1]", r"augment.compose.height=.*: give the smallest and the largest"),
        ("augment.compose.height=[a,b]", r"augment.compose.height=.*: give the smallest and the largest"),
        ("augment.compose=5", r"augment.compose=5: give its keys, which are p, "),
        ("+augment.compose.size=3", r"augment.compose.size is no key: there are p, "),
        ("augment.compose.least=9", r"augment.compose.least=9 is more than augment.compose.most=8"),
    ],
)
def test_wrong_settings_are_one_sentence(root, override, sentence):
    with pytest.raises(ValueError, match=sentence):
        data(root, override)


def mixed(root, *overrides: str):
    people, places = root / "people", root / "places"
    if not people.exists():
        write_people(people, 12, (96, 80))
        write_people(places, 8, (96, 88))
        for file in (places / "masks").iterdir():
            cv2.imwrite(str(file), np.zeros((96, 88), np.uint8))
    return [
        "data=mix", "+data@data.sources.people=folder", f"data.sources.people.root={people}",
        "+data@data.sources.places=folder", f"data.sources.places.root={places}", "data.val_split=0.25",
        "+data@data.sources.crowds=composed", "data.sources.crowds.people=[people]", "data.sources.crowds.samples=6",
        "data.sources.crowds.places=[places]", "data.sources.crowds.longest=96", *overrides,
    ]  # fmt: skip


def opened(root, *overrides: str):
    cfg = composed(*mixed(root, f"out={root}/outputs", "data.image_size=32", "data.num_workers=0", *overrides))
    refuse_wrong_values(cfg)
    return build.data(cfg["data"] | {"batch_size": 4}, None, 1, cfg["seed"])


def validated(found) -> list:
    (part,) = [part for part in found.splits["val"].parts if part.name == "crowds"]
    return list(found.eval_batches("val", part=part))


def test_composed_photographs_are_the_same_for_the_same_split_seed_alone(tmp_path):
    first = validated(opened(tmp_path))
    assert equal(first, validated(opened(tmp_path, "seed=3", "data.cache=false")))
    assert equal(first, validated(opened(tmp_path)))
    assert not equal(first, validated(opened(tmp_path, "data.split_seed=1")))
    assert first[0][0].shape == (6, 32, 32, 3) and (first[0][1] == 1).flatten(1).any(1).all()


def test_composed_photographs_show_held_back_people_and_places_only(tmp_path, monkeypatch):
    read, real = set(), crowds.Shrunk.__getitem__
    monkeypatch.setattr(crowds.Shrunk, "__getitem__", lambda self, i: read.add(self.source.names[i]) or real(self, i))
    found = opened(tmp_path, "data.cache=false")
    (part,) = [part for part in found.splits["val"].parts if part.name == "crowds"]
    part.source[0], part.source[1]
    trained = {one.name_of(place) for one in found.splits["train"].parts for place in range(len(one))}
    assert read and not read & trained and "test" not in {side for side, some in found.splits.items() if len(some)}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.sources.crowds.people=[]", r"data.sources.crowds.people=\[\]: name sources .* which are people, places"),
        ("data.sources.crowds.places=[scenes]", r"crowds.places=\['scenes'\]: name sources of the mix"),
        ("data.sources.crowds.only=test", r"crowds: people, places hold no photographs back .*test_split"),
        ("data.sources.crowds.longest=9", r"crowds.longest=9: give a whole number from 64 to 4096"),
        ("data.sources.crowds.most=99", r"most=99: give a whole number from 1 to 64"),
    ],
)
def test_a_composed_source_that_cannot_be_is_one_sentence(tmp_path, override, sentence):
    with pytest.raises(ValueError, match=sentence):
        opened(tmp_path, override)


def test_two_composed_sources_cannot_wait_for_each_other(tmp_path):
    more = [
        "+data@data.sources.more=composed",
        "data.sources.more.people=[people]",
        "data.sources.more.places=[crowds]",
    ]
    with pytest.raises(
        ValueError, match=r"sources.crowds.places=\['more'\]: .* not composed, which are people, places"
    ):
        opened(tmp_path, *more, "data.sources.crowds.places=[more]")


def test_composed_photographs_of_two_folders_need_no_mix(tmp_path):
    mixed(tmp_path)
    folders = [f"data.people_root={tmp_path}/people", f"data.places_root={tmp_path}/places/images"]
    cfg = composed("data=composed", *folders, "data.samples=5", "data.image_size=32", f"out={tmp_path}/outputs")["data"]
    (images, masks), *_ = build.data(cfg | {"num_workers": 0}, None, 1, 0).eval_batches("val")
    assert len(images) == 5 and (masks == 1).flatten(1).any(1).all()
    with pytest.raises(ValueError, match=r"give data.people_root and data.places_root"):
        build.data(cfg | {"places_root": None}, None, 1, 0)
    with pytest.raises(ValueError, match=r"data.people_root: .*/nowhere/images does not exist"):
        build.data(cfg | {"people_root": f"{tmp_path}/nowhere"}, None, 1, 0)


def test_places_with_people_everywhere_are_one_sentence(tmp_path):
    found = opened(tmp_path, "data.sources.crowds.places=[people]", "data.cache=false")
    with pytest.raises(ValueError, match=r"of 20 photographs of people none is without people"):
        validated(found)


def test_a_run_trains_on_composed_people_and_validates_on_the_same_crowds_to_its_end(run, tmp_path):
    own = [item for item in TINY if not item.startswith(("data.samples", "data.val_split"))]
    others = write_people(tmp_path / "others", 4, (96, 80))
    roots = [f"data.sources.street.people_root={others}", f"data.sources.street.places_root={tmp_path}/places/images"]
    street = ["+data@data.sources.street=composed", "data.sources.street.samples=2", *roots]
    done = run(*own, *mixed(tmp_path), *street, "augment=composed", "trainer.epochs=1")
    assert "compose    0.5 of the samples, with people of 9 photographs, and 6 places" in done.stdout
    assert rows(done.folder)[0]["val/street/iou"]
    for part in ("images", "masks"):
        (others / part / "003.png").unlink()
    told = run(f"resume={done.folder}", "trainer.epochs=2", code=1).stderr
    assert "the street.people samples are not those that this run began with" in told
