"""What happens to a sample is a pure function of (seed, pass, index); letterboxes can be undone."""

from array import array

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from conftest import TINY, composed

from humanseg import build
from humanseg.compute import to_input
from humanseg.data import loading
from humanseg.data.augment import Grain, Reframe, SquareCrop, Tint
from humanseg.data.order import BatchNumbers
from humanseg.data.splits.parts import Part, Split
from humanseg.data.synthetic import synthetic
from humanseg.data.transforms import IGNORE, letterbox, letterbox_box, shrink, unletterbox


def data(people, *overrides: str):
    cfg = composed("data=folder", f"data.root={people}", "augment=portrait", "data.image_size=32", *overrides)
    return build.data(cfg["data"] | {"batch_size": 4, "val_split": 0}, cfg["augment"], 1, cfg["seed"])


def batches(found, start: int, stop: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(found.train_batches(start, stop))


def equal(ours: list, theirs: list) -> bool:
    return len(ours) == len(theirs) and all(
        torch.equal(a, b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_batches_are_the_same_for_any_number_of_workers(people):
    alone = batches(data(people, "data.num_workers=0"), 0, 7)
    for workers in (1, 3):
        assert equal(alone, batches(data(people, f"data.num_workers={workers}"), 0, 7))


def test_a_batch_follows_from_its_number_alone(people):
    found = data(people, "data.num_workers=0")
    assert equal(batches(found, 0, 7)[4:], batches(found, 4, 7))


def test_passes_and_seeds_differ(people):
    found = data(people, "data.num_workers=0", "data.limit=4")
    first, second = batches(found, 0, 2)
    assert not torch.equal(first[0].sort(0).values, second[0].sort(0).values)
    assert not equal([first], batches(data(people, "data.num_workers=0", "data.limit=4", "seed=1"), 0, 1))


def test_the_stream_shuffles_each_pass_and_drops_the_incomplete_batch():
    split = Split([Part(None, array("q", range(10)))])
    found = list(BatchNumbers(split, 3, seed=0, start=0, stop=7))
    assert [turn for batch in found for turn, _, _ in batch] == [0] * 9 + [1] * 9 + [2] * 3
    first, second = ([index for batch in found[start : start + 3] for _, index, _ in batch] for start in (0, 3))
    assert len(set(first)) == len(set(second)) == 9 and first != second


def test_batch_names_are_those_of_the_batch(people):
    found = data(people, "data.num_workers=0")
    names = found.batch_names(5)
    (numbers,) = BatchNumbers(found.splits["train"], 4, 0, 5, 6)
    assert names == [found.splits["train"].name(index) for _, index, _ in numbers]


def test_two_transforms_draw_independently(people):
    pipeline = A.Compose([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)])
    found = data(people, "data.num_workers=0")
    found.augment = pipeline
    quadrant = np.zeros((32, 32), np.uint8)
    quadrant[:16, :16] = 1
    sample = (np.repeat(quadrant[..., None] * 200, 3, 2), quadrant)
    found.splits["train"] = Split([Part([sample] * 12, array("q", range(12)))])
    corners = torch.stack([mask[:, ::31, ::31].flatten(1) for _, mask in batches(found, 0, 75)]).flatten(0, 1)
    share = corners.float().mean(0)  # none, horizontal, vertical, both: a quarter each of 300
    assert share.sum() == 1 and ((share > 0.17) & (share < 0.33)).all(), share


def test_training_with_any_number_of_workers_gives_the_same_weights(run):
    weights = []
    for workers in (0, 1, 3):
        done = run(*TINY, "augment=composed", f"data.num_workers={workers}")
        weights.append(torch.load(done.folder / "checkpoints" / "last.pt", weights_only=True)["model"])
    for other in weights[1:]:
        assert all(torch.equal(value, other[key]) for key, value in weights[0].items())


@pytest.mark.parametrize("size", [(48, 40), (40, 48), (20, 64), (100, 7), (32, 32), (1, 500)])
def test_letterbox_centres_pads_and_can_be_undone(size):
    mask = np.ones(size, np.uint8)
    image = np.full((*size, 3), 200, np.uint8)
    square, labels = letterbox(image, mask, 32, pad_value=7)
    top, left, height, width = letterbox_box(*size, 32)
    assert square.shape == (32, 32, 3) and max(height, width) == 32
    assert abs(top - (32 - height - top)) <= 1 and abs(left - (32 - width - left)) <= 1
    inside = np.zeros((32, 32), bool)
    inside[top : top + height, left : left + width] = True
    assert (labels[inside] == 1).all() and (labels[~inside] == IGNORE).all()
    assert (square[inside] == 200).all() and (square[~inside] == 7).all()
    logits = torch.where(torch.from_numpy(inside), 1.0, -9.0)[None]
    torch.testing.assert_close(unletterbox(logits, *size), torch.ones(1, *size))


def test_a_photograph_comes_back_where_it_was():
    rows, columns = np.indices((60, 90))
    mask = (((rows - 20) / 14) ** 2 + ((columns - 60) / 20) ** 2 < 1).astype(np.uint8)
    _, labels = letterbox(np.zeros((60, 90, 3), np.uint8), mask, 64, 0)
    back = unletterbox(torch.from_numpy((labels == 1) * 2.0 - 1)[None], 60, 90)[0].numpy() > 0
    assert (back & (mask > 0)).sum() / (back | (mask > 0)).sum() > 0.95


def test_shrinking_leaves_small_photographs_alone():
    image, mask = np.zeros((60, 90, 3), np.uint8), np.zeros((60, 90), np.uint8)
    assert shrink(image, mask, 90)[0].shape == (60, 90, 3)
    assert shrink(image, mask, 45)[0].shape == (30, 45, 3) and shrink(image, mask, 45)[1].shape == (30, 45)


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_network_gets_normalised_pixels(channels_last):
    images = torch.randint(0, 256, (2, 4, 6, 3), dtype=torch.uint8)
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
    inputs = to_input(images, mean, std, channels_last)
    expected = (images / 255 - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(inputs, expected.permute(0, 3, 1, 2))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert inputs.is_contiguous(memory_format=layout)


def test_square_crop_is_a_square_of_its_share():
    image = np.arange(60 * 90 * 3, dtype=np.uint32).reshape(60, 90, 3).astype(np.uint8)
    crop = A.Compose([SquareCrop(scale=(0.5, 0.6))], seed=0)
    for _ in range(20):
        found = crop(image=image, mask=image[..., 0])
        assert found["image"].shape[0] == found["image"].shape[1] and 30 <= found["image"].shape[0] <= 36
        np.testing.assert_array_equal(found["image"][..., 0], found["mask"])


def test_synthetic_people_are_split_like_files():
    assert len(synthetic(20, 32, 0)["train"]) == 20


def reframed(**arguments) -> tuple[np.ndarray, np.ndarray]:
    """A photograph 60x40 that is grey where its mask is 1, reframed to 32x32."""
    mask = np.zeros((60, 40), np.uint8)
    mask[10:50, 10:30] = 1
    view = A.Compose([Reframe(size=32, **arguments)], seed=0)(image=np.repeat(mask[..., None] * 200, 3, 2), mask=mask)
    assert view["image"].shape == (32, 32, 3) and view["mask"].shape == (32, 32)
    return view["image"], view["mask"]


def test_reframing_without_change_is_the_letterbox():
    _, mask = reframed(zoom=(1, 1), shift=0, rotate=0, mirror=0)
    expected = letterbox(np.zeros((60, 40, 3), np.uint8), (np.indices((60, 40))[0] * 0).astype(np.uint8), 32, 0)[1]
    assert ((mask == IGNORE) != (expected == IGNORE)).sum() <= 32  # a column, where a third of a pixel is rounded
    assert (mask == 1).sum() == pytest.approx(40 * 20 * (32 / 60) ** 2, rel=0.1)


@pytest.mark.parametrize("zoom", [0.5, 2.0])
def test_reframing_moves_photograph_and_mask_alike(zoom):
    image, mask = reframed(zoom=(zoom, zoom), mirror=0)
    sure = cv2.erode((mask == 1).astype(np.uint8), np.ones((3, 3)), borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    assert sure.any() and (image[sure] > 150).all() and (image[mask == IGNORE] < 120).all()
    assert (mask == 1).sum() == pytest.approx(min(40 * 20 * (32 / 60 * zoom) ** 2, 32 * 32), rel=0.35)


def test_a_mirrored_photograph_fills_the_square():
    _, mask = reframed(zoom=(0.3, 0.3), mirror=1)
    assert set(np.unique(mask)) == {0, 1}
    people, _ = cv2.connectedComponents(mask)
    assert people > 4


@pytest.mark.parametrize(
    ("cores", "cuda", "workers"),
    [(1, False, 0), (4, False, 0), (16, False, 1), (1, True, 1), (16, True, 15), (64, True, 16)],
)
def test_workers_are_chosen_for_the_machine(monkeypatch, cores, cuda, workers):
    monkeypatch.setattr(loading, "cores", lambda: cores)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert loading.auto_workers() == workers


def test_a_flipped_view_is_the_view_of_the_flipped_photograph():
    image = np.random.default_rng(0).integers(0, 256, (33, 33, 3), np.uint8)
    still = {"zoom": (1, 1), "shift": 0, "rotate": 0, "mirror": 0}
    views = [A.Compose([Reframe(size=33, flip=flip, **still)])(image=image)["image"] for flip in (0, 1)]
    np.testing.assert_array_equal(views[0][:, ::-1], views[1])


def test_tint_turns_no_grey_into_a_colour_and_keeps_what_it_is_not_asked_to_change():
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    grey = np.repeat(image[..., :1], 3, axis=2)
    none = Tint((1, 1), (1, 1), (1, 1), 0, p=1)
    assert np.abs(A.Compose([none])(image=image)["image"].astype(int) - image).max() <= 1
    turned = A.Compose([Tint((0.9, 0.9), (1.2, 1.2), (1.5, 1.5), 0.05, p=1)])(image=grey)["image"]
    assert np.ptp(turned.astype(int), axis=2).max() <= 1
    white = np.full((9, 9, 3), 200, np.uint8)
    assert (A.Compose([Tint((0.5, 0.5), (0.7, 0.7), (1, 1), 0, p=1)])(image=white)["image"] == 100).all()


def test_grain_is_normal_and_each_colours_own():
    image = np.full((200, 200, 3), 128, np.uint8)
    noise = A.Compose([Grain((0.04, 0.04), p=1)])(image=image)["image"].astype(float) - 128
    assert abs(noise.mean()) < 0.2 and noise.std() == pytest.approx(0.04 * 255, rel=0.03)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.03
