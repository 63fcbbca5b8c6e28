"""Several sources train together: weights, sides, names, and streams that depend on seed, pass and sample alone."""

import itertools
from array import array

import numpy as np
import pytest
import torch
from conftest import composed, write_people

from humanseg import build
from humanseg.data import mix
from humanseg.data.order import BatchNumbers
from humanseg.data.outlines import without_outlines
from humanseg.data.splits.parts import Part, Split
from humanseg.processes.distributed import Share

COMMON = {"image_size": 32, "batch_size": 4, "num_workers": 0, "val_split": 2, "cache": False}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Two folders of photographs, of which the first ones of both are equal, and a list of those of the second."""
    root = tmp_path_factory.mktemp("mix")
    write_people(root / "one", 10)
    two = write_people(root / "two", 8)
    for number in range(2, 8):
        file = two / "images" / f"{number:03d}.png"
        file.write_bytes(file.read_bytes() + b"another one")
    lines = [f"two/images/{number:03d}.png, two/masks/{number:03d}.png\n" for number in range(8)]
    (root / "list.txt").write_text("".join(lines))
    return root


def data(*overrides: str, **keys):
    cfg = composed(*overrides, "augment=portrait")
    return build.data(cfg["data"] | COMMON | keys, cfg["augment"], 1, cfg["seed"])


def mixed(places, *overrides: str, **keys):
    one = ["+data@data.sources.one=folder", f"data.sources.one.root={places}/one"]
    two = ["+data@data.sources.two=pairs", f"data.sources.two.pairs={places}/list.txt"]
    return data("data=mix", *one, *two, *overrides, **keys)


def numbers(split: Split, passes: range) -> list[list[tuple[int, int, int]]]:
    """All (pass, position, repeat) of each of these passes."""
    size = split.per_pass
    batches = [BatchNumbers(split, size, 0, number, number + 1) for number in passes]
    return [next(iter(batch)) for batch in batches]


def source(count: int = 10, **more):
    return type("Source", (), {"__len__": lambda self: count, "names": [f"{n}.png" for n in range(count)], **more})()


def part(name: str = "", weight: float = 1, count: int = 10, **more) -> Part:
    return Part(source(count, **more), array("q", range(count)), name, weight)


def test_a_mix_of_one_source_gives_the_bits_of_that_source_alone(places):
    alone = data("data=folder", f"data.root={places}/one")
    others = [
        data("data=mix", "+data@data.sources.any=folder", f"data.sources.any.root={places}/one"),
        data("data=folder", f"data.root=[{places}/one]"),
    ]
    for other in others:
        for ours, theirs in itertools.chain(
            zip(alone.train_batches(0, 5), other.train_batches(0, 5), strict=True),
            zip(alone.eval_batches("val"), other.eval_batches("val"), strict=True),
        ):
            assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


def test_batches_of_a_mix_are_the_same_for_any_number_of_workers_and_processes(places):
    weights = ["+data.sources.one.weight=0.5", "+data.sources.two.weight=3"]
    alone = list(mixed(places, *weights).train_batches(0, 9))
    by_workers = list(mixed(places, *weights, num_workers=2).train_batches(0, 9))
    shared = [mixed(places, *weights) for _ in range(2)]
    for rank, found in enumerate(shared):
        found.share = Share(rank, 2)
    halves = zip(*(one.train_batches(0, 9) for one in shared), strict=True)
    by_processes = [[torch.cat(both) for both in zip(*pair, strict=True)] for pair in halves]
    for first, second, third in zip(alone, by_workers, by_processes, strict=True):
        assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(first, second, third, strict=True))


def test_weights_say_how_often_a_pass_has_each_sample():
    split = Split([part("once"), part("thrice", 3), part("half", 0.5), part("never", 0)])
    assert len(split) == 40 and split.per_pass == 10 + 30 + 5
    seen = [np.bincount([position for _, position, _ in one], minlength=40) for one in numbers(split, range(4))]
    for counts in seen:
        assert (counts[:10] == 1).all() and (counts[10:20] == 3).all() and (counts[30:] == 0).all()
        assert counts[20:30].sum() == 5 and counts[20:30].max() == 1
    assert ((seen[0] + seen[1])[20:30] == 1).all() and (seen[0][20:30] == seen[2][20:30]).all()
    repeats = {(position, repeat) for _, position, repeat in numbers(split, range(1))[0] if 10 <= position < 20}
    assert repeats == {(position, repeat) for position in range(10, 20) for repeat in range(3)}


def test_a_source_brings_weights_of_its_samples():
    own = Split([part("", 2, 4, weights=[1, 0, 0.25, 2])])
    counts = sum(np.bincount([position for _, position, _ in one], minlength=4) for one in numbers(own, range(4)))
    assert own.per_pass == 6 and counts.sum() == 24
    np.testing.assert_allclose(counts, [8, 0, 2, 16], atol=2)  # a pass has a whole number of samples


def test_a_source_that_is_for_one_side_has_no_other(places):
    found = mixed(places, "+data.sources.one.only=train", "+data.sources.two.only=val").splits
    parts = {side: {one.name: len(one) for one in split.parts} for side, split in found.items()}
    assert parts == {"train": {"one": 8}, "val": {"two": 8}, "test": {}}  # two of `one` are equal to some of `two`
    found = mixed(places, "+data.sources.two.only=test", "data.duplicates=ignore").splits
    parts = {side: {one.name: len(one) for one in split.parts} for side, split in found.items()}
    assert parts == {"train": {"one": 8}, "val": {"one": 2}, "test": {"two": 8}}


def test_what_one_source_holds_back_another_does_not_train(places):
    found = mixed(places, cache_dir=str(places / "cache")).splits
    held = np.concatenate([one.content for one in found["val"].parts])
    assert not np.isin(np.concatenate([one.content for one in found["train"].parts]), held).any()


def test_folders_in_a_list_are_a_mix_by_their_names(places):
    found = data("data=folder", f"data.root=[{places}/one,{places}/two]", "data.weights=[1,3]").splits["train"]
    assert [(one.name, one.weight) for one in found.parts] == [("one", 1), ("two", 3)]
    config = {
        "_target_": "x",
        "root": ["a/images", "b/images", "7"],
        "val_root": "c",
        "test_root": None,
        "val_split": 0.1,
    }
    nodes = mix.nodes(config)
    assert [*nodes] == ["images_0", "images_1", "root_7", "c"]
    assert nodes["root_7"] | {"root": "7", "val_root": None, "val_split": 0} == nodes["root_7"]
    assert nodes["c"] | {"root": "c", "only": "val", "val_root": None} == nodes["c"]
    nodes = mix.nodes(config | {"root": ["a/x", "b/x", "x_0"]})
    assert [node["root"] for node in nodes.values()] == ["a/x", "b/x", "x_0", "c"]  # none takes another one's place


LEAF = {"_target_": "x"}
TOGETHER = {"_target_": "humanseg.data.mix.together"}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (TOGETHER | {"sources": {}}, "data=mix has no source: name some, as"),
        (TOGETHER | {"sources": LEAF}, "data.sources: a source has a name, as coco in"),
        (TOGETHER | {"sources": {"a b": LEAF, "_1": LEAF}}, "'a b' is no name of a source: .*\n.*'_1' is no name"),
        (TOGETHER | {"sources": {"a": {"weight": 1}, "b": 3}}, r"sources.a is no source: .*\n.*sources.b is no source"),
        (TOGETHER | {"sources": {"a": LEAF | {"sources": {}}}}, "data.sources.a is no source"),
        (TOGETHER | {"sources": {"a": LEAF | {"weight": 0}}}, "the weights of all sources .* are 0"),
        (TOGETHER | {"sources": {"a": LEAF}, "weights": [1]}, "data.weights is for a list of data.root"),
        (LEAF | {"sources": {"a": LEAF}}, "data.sources is for several sources together: type data=mix too"),
        (LEAF | {"root": ["a", "b"], "weights": [1]}, r"data.weights=\[1\]: give a number for each of the 2 folders"),
        (LEAF | {"root": ["a", "b"], "weights": [0, 0]}, "the weights of all sources .* are 0"),
        (LEAF | {"root": "a", "weights": [1]}, r"data.weights=\[1\]: give data.root as a list too"),
    ],
)
def test_what_is_no_mix_is_a_sentence(config, sentence):
    with pytest.raises(ValueError, match=sentence):
        mix.nodes(config)


def test_the_problems_of_all_sources_are_told_by_their_own_keys(places):
    wrong = ["data.sources.one.root=data.root/x", "+data.sources.one.only=val", "+data.sources.two.val_split=99"]
    with pytest.raises(ValueError) as error:
        mixed(places, *wrong)
    told = str(error.value)
    assert "data.sources.one: 2 problems\n  data.sources.one.root: data.root/x/images does not exist" in told
    assert "data.sources.two.test_split=0 takes 0 and data.sources.two.val_split=99 takes 8" in told
    with pytest.raises(ValueError, match="data.sources.one: it has no photographs: give one of data.sources.one.root"):
        mixed(places, "data.sources.one.root=null")
    with pytest.raises(ValueError, match="data.sources.one.wieght: there is no such key, did you mean weight?"):
        mixed(places, "+data.sources.one.wieght=2")
    with pytest.raises(ValueError, match="data.rot: there is no such key, did you mean root?"):
        data("data=folder", "+data.rot=2")


def test_a_band_around_outlines_is_ignored_and_what_is_ignored_has_no_outline():
    mask = np.zeros((7, 9), np.uint8)
    mask[:, 4:] = 1
    mask[5:, :] = 255
    found = without_outlines(mask, 1)
    assert (found[:5, 3:5] == 255).all() and (found[5:] == 255).all()
    assert (found[:5, :3] == 0).all() and (found[:5, 5:] == 1).all()


def test_a_band_is_of_its_source_and_of_training_alone(places):
    bare, wide = (mixed(places, *more, val_split="train") for more in ([], ["+data.sources.two.band=2"]))
    for position in range(len(bare.splits["train"])):
        (image, mask), (_, other) = (one.samples("train")[position] for one in (bare, wide))
        banded = bare.splits["train"].source_of(position) == "two"
        assert ((other == 255) & (mask != 255)).any() == banded
        assert torch.equal(other[other != 255], mask[other != 255])
    for ours, theirs in zip(bare.eval_batches("val"), wide.eval_batches("val"), strict=True):
        assert torch.equal(ours[1], theirs[1])
