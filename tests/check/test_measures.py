"""What a check measures: outlines beside edges, disagreements by kind, photographs that look the same."""

import cv2
import numpy as np
import pytest

from humanseg.check import disagree, edges, measures
from humanseg.data.splits.alike import HASHED, NEAR, first_alike, perceptual_hashes


def person(height: int = 300, width: int = 240, right: int = 0, down: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A photograph of a bright figure on a soft ground, and a mask of it that may lie beside it."""
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(40, 110, (12, 10, 3), dtype=np.uint8), (width, height))
    masks = []
    for at in ((0, 0), (right, down)):
        mask = np.zeros((height, width), np.uint8)
        cv2.circle(mask, (width // 2 + at[0], height // 3 + at[1]), width // 8, 1, -1)
        cv2.ellipse(mask, (width // 2 + at[0], 2 * height // 3 + at[1]), (width // 5, height // 4), 0, 0, 360, 1, -1)
        masks.append(mask)
    image = np.where(masks[0][..., None] == 1, np.uint8(180), ground) + rng.integers(
        0, 12, (height, width, 3), dtype=np.uint8
    )
    return image, masks[1]


def test_an_outline_on_the_edge_fits_where_it_is():
    fit = edges.fit(*person())
    assert fit.here > 4 and fit.here == pytest.approx(fit.best) and np.hypot(fit.right, fit.down) < 0.004


@pytest.mark.parametrize("right, down", [(8, 0), (-5, 6), (0, -9)])
def test_a_mask_beside_the_person_says_where_it_belongs(right, down):
    fit = edges.fit(*person(right=right, down=down))
    assert (fit.right * 300, fit.down * 300) == pytest.approx((-right, -down), abs=1.2)
    assert fit.best - fit.here > 0.5


def test_a_wide_ignored_region_has_no_outline_and_a_thin_one_is_an_unsure_edge():
    image, mask = person()
    thin = mask.copy()
    thin[(cv2.dilate(mask, np.ones((5, 5))) != cv2.erode(mask, np.ones((5, 5))))] = 255
    assert edges.fit(image, thin).here > 4
    wide = np.where(mask == 1, 255, 0).astype(np.uint8)
    assert np.isnan(edges.fit(image, wide).here)


def test_disagreements_are_told_apart():
    label = np.zeros((100, 80), np.uint8)
    label[20:90, 10:40] = 1
    seen = label.astype(np.float32)

    def kind(probability: np.ndarray, of: np.ndarray) -> str:
        told = disagree.compare(probability, of)
        return max(("unlabelled", "nobody", "edge"), key=told.get) if told["score"] > 0.02 else ""

    second = seen.copy()
    second[30:80, 50:75] = 1
    assert kind(seen, label) == ""
    assert kind(second, label) == "unlabelled"
    assert kind(np.zeros_like(seen), label) == "nobody"
    assert kind(np.roll(seen, 2, axis=1), label) == "edge"
    ignored = label.copy()
    ignored[30:80, 50:75] = 255
    assert kind(second, ignored) == ""


def test_the_first_photograph_that_looks_the_same_is_found():
    rng = np.random.default_rng(0)
    looks = np.zeros(300, HASHED)
    for name in ("hash", "mirrored"):
        looks[name] = rng.integers(1, 2**63, 300, dtype=np.uint64)
    hashes = looks["hash"]
    hashes[200] = hashes[7] ^ np.uint64(0b11111)
    hashes[201] = hashes[200] ^ np.uint64((2**NEAR - 1) << 20)
    looks["mirrored"][202] = hashes[9] ^ np.uint64(1 << 63 | 0b1111111)
    hashes[220:240] = hashes[203] ^ np.uint64(1) << np.arange(20, dtype=np.uint64)
    hashes[250:] = 0  # nothing is known of them
    content = np.arange(300, dtype=np.uint64)
    content[299] = content[3]
    apart = [np.bitwise_count(looks[name][:, None] ^ hashes) for name in ("hash", "mirrored")]
    near = (np.minimum(*apart) <= NEAR) & (hashes[:, None] != 0) & (hashes != 0)
    expected = np.full(300, -1)
    for place in range(300):
        before = np.flatnonzero(near[place, :place])
        expected[place] = before[0] if len(before) else -1
    expected[299] = 3
    assert np.count_nonzero(expected >= 0) == 24
    np.testing.assert_array_equal(first_alike(looks, content), expected)


def test_a_smaller_jpeg_of_a_photograph_looks_the_same_and_a_blank_one_like_nothing():
    image, _ = person()
    small = cv2.imdecode(
        cv2.imencode(".jpg", cv2.resize(image, None, fx=0.6, fy=0.6), [cv2.IMWRITE_JPEG_QUALITY, 50])[1], 1
    )
    (own, turned), (others, others_turned) = perceptual_hashes(image), perceptual_hashes(small[:, ::-1])
    assert (own ^ others_turned).bit_count() <= NEAR and (turned ^ others).bit_count() <= NEAR
    assert (own ^ others).bit_count() > NEAR
    assert perceptual_hashes(np.full_like(image, 90)) == (0, 0)


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(tmp_path, quality):
    from PIL import Image

    Image.fromarray(person()[0]).save(tmp_path / "a.jpg", quality=quality)
    with Image.open(tmp_path / "a.jpg") as image:
        assert measures.jpeg_quality(image.quantization) == pytest.approx(quality, abs=2)


def test_people_are_counted_without_specks_and_told_where_the_frame_cuts_them():
    mask = np.zeros((100, 100), np.uint8)
    mask[60:, 20:50] = 1
    mask[10:30, 60:80] = 1
    mask[0, 0] = 1
    assert measures.people(mask, measures.shares(mask)[0]) == pytest.approx([0.12, 0.04])
    large = np.zeros((803, 599), np.uint8)  # counted at a smaller size, where its share is another one
    large[100:401, 50:333] = 1
    whole, _ = measures.shares(large)
    assert measures.people(large, whole) == [whole]
    assert measures.cut_sides(mask) == 1 << measures.SIDES.index("bottom")
