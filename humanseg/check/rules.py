"""What the facts of single photographs show to be wrong or odd."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from humanseg.check.facts import EITHER_WAY, MENDED, OTHER_SIZE, SOFT
from humanseg.check.findings import KINDS, Finding
from humanseg.check.scan import Sample, Scanned
from humanseg.data.splits.alike import FLAT

WHOLE = 0.995  # share of person from which a mask is full
RARE = 0.1  # empty masks, and other values, are findings where less of the source's masks are such
FEW = 20  # a note that holds for more photographs than these, and than RARE of the source, is one of the source as a whole
IGNORED = 0.5  # share of a mask that is ignored
PARTS = 30  # connected parts of people
DARK, BRIGHT = 25, 235  # grey levels: means
BLURRED, QUALITY, LONG = 12, 40, 3  # see `measures.sharpness`; of a JPEG; longer side by the shorter one
# Of `edges.Fit`: below LOST an outline follows nothing, where the source's are better by so many median deviations. From
# CLEAR on a place is an edge's; it is another one that is better by CLEARER and so far away, as a share of the longer side.
# On 430 sound masks of eg1800 and ccp, moved by 8 of 800 pixels and more, the largest distance of a sound one was 0.005.
LOST, APART, CLEAR, CLEARER, BESIDE = 2.7, 6, 4, 0.5, 0.006


class Rule(NamedTuple):
    """A kind of finding; in which records it is found; what is said of one, a record of FACTS; the numbers that tell; and how bad each is."""

    kind: str
    found: np.ndarray
    words: Callable[[np.void], str]
    numbers: tuple[str, ...]
    rank: np.ndarray


def findings(one: Scanned, image_size: int) -> Iterator[Finding]:
    """Findings about single photographs of a source.

    Args:
        image_size: the side of the network's input, pixels.
    """
    own = {*one.broken.values()}
    for told in getattr(one.source, "problems", ()):
        if told not in own:
            yield Finding("refused", (), told, whole=one.name)
    for index, told in one.broken.items():
        yield Finding("unreadable", (Sample(one, index),), told)
    sound = one.sound()
    facts = one.facts[sound]
    for rule in _rules(facts, image_size) if len(sound) else ():
        places = np.flatnonzero(rule.found)
        of_source = KINDS[rule.kind].severity == "note" and len(places) > max(FEW, RARE * len(sound))
        if of_source:
            places = places[[rule.rank[places].argmax()]]
        for place in places.tolist():
            words = rule.words(facts[place])
            numbers = {name: round(facts[name][place].item(), 4) for name in rule.numbers}
            if of_source:
                count = np.count_nonzero(rule.found)
                words, numbers = f"{count} of the source's {len(sound)}; here {words}", {"count": int(count), **numbers}
            sample = Sample(one, int(sound[place]))
            yield Finding(rule.kind, (sample,), words, numbers, float(rule.rank[place]))


def _rules(facts: np.ndarray, image_size: int) -> list[Rule]:
    """The rules for the sound photographs of a source."""
    return [*_of_masks(facts), _misplaced(facts), _other_values(facts), *_of_photographs(facts, image_size)]


def _of_masks(facts: np.ndarray) -> list[Rule]:
    person, ignored, people, flags = (facts[name] for name in ("person", "ignored", "people", "flags"))
    empty, equal = person == 0, np.zeros(len(facts))
    return [
        Rule("full", person >= WHOLE, lambda one: f"{one['person']:.1%} of it is person", ("person",), person),
        Rule("empty", empty & (empty.mean() < RARE), lambda _: "nobody is labelled", (), equal),
        Rule(
            "mostly_ignored",
            (ignored > IGNORED) & (ignored.min() < 1),  # where nothing is labelled that is meant so
            lambda one: f"{one['ignored']:.0%} of it is ignored",
            ("ignored",),
            ignored,
        ),
        Rule("scattered", people >= PARTS, lambda one: f"its people lie in {one['people']} parts", ("people",), people),
        Rule(
            "either_way",
            flags & EITHER_WAY > 0,
            lambda _: "EXIF turns it, and its mask fits either way: it is taken as upright",
            (),
            equal,
        ),
        Rule("resized", flags & OTHER_SIZE > 0, lambda _: "its mask has another size and is resized", (), equal),
    ]


def _of_photographs(facts: np.ndarray, image_size: int) -> list[Rule]:
    sides = np.stack([facts["width"], facts["height"]]).astype(float)
    longer, shorter = sides.max(0), sides.min(0)

    def size(one: np.void) -> str:
        return f"it has {one['width']}x{one['height']} pixels"

    def grey(kind: str, name: str, found: np.ndarray, told: str, high: bool = False) -> Rule:
        values = facts[name].astype(float)
        return Rule(kind, found, lambda one: told.format(one[name]), (name,), values if high else -values)

    return [
        grey("flat", "contrast", facts["contrast"] < FLAT, "its contrast is {:.1f} of 255"),
        grey("dark", "brightness", facts["brightness"] < DARK, "its mean is {:.0f} of 255"),
        grey("bright", "brightness", facts["brightness"] > BRIGHT, "its mean is {:.0f} of 255", high=True),
        grey("blurred", "sharpness", facts["sharpness"] < BLURRED, "its sharpness is {:.1f}"),
        grey("compressed", "quality", (facts["quality"] > 0) & (facts["quality"] < QUALITY), "its JPEG quality is {}"),
        Rule("small", longer < image_size, size, ("width", "height"), -longer),
        Rule("long", longer > LONG * shorter, size, ("width", "height"), longer / shorter),
        Rule("metadata", facts["flags"] & MENDED > 0, lambda _: "it is ignored", (), np.zeros(len(facts))),
    ]


def _misplaced(facts: np.ndarray) -> Rule:
    """Masks whose outline follows no edge, or lies beside one, though those of the source follow edges better."""
    known = ~np.isnan(facts["here"])
    here, best = (np.where(known, facts[name], np.inf) for name in ("here", "best"))
    moved = np.where(known, np.hypot(facts["right"], facts["down"]), 0)
    middle = np.median(here[known]) if known.any() else 0.0
    spread = np.median(np.abs(here[known] - middle)) if known.any() else 0.0
    usual = np.quantile(moved[known], 0.75) if known.any() else 0.0
    lost = here < min(LOST, middle - APART * spread)
    beside = known & (best >= CLEAR) & (moved > max(BESIDE, 3 * usual))
    beside[beside] = best[beside] - here[beside] > CLEARER

    def words(one: np.void) -> str:
        if one["best"] < CLEAR:
            return "its outline does not follow the edges of the photograph"
        right, down = (round(float(one[way]) * int(max(one["width"], one["height"]))) for way in ("right", "down"))
        ways = [f"{abs(right)} px to the {'right' if right > 0 else 'left'}"] * bool(right)
        ways += [f"{abs(down)} px {'down' if down > 0 else 'up'}"] * bool(down)
        return f"its outline would follow the edges of the photograph {' and '.join(ways)}"

    return Rule("misplaced", lost | beside, words, ("here", "best", "right", "down"), np.where(known, middle - here, 0))


def _other_values(facts: np.ndarray) -> Rule:
    """Masks with values that hardly any other mask of the source holds, where masks hold numbers and no shades."""
    bits = facts["values"]
    numbers = bits.any(1) & (facts["flags"] & SOFT == 0)
    columns = (np.unpackbits(column[:, None], axis=1) for column in bits[numbers].T)
    share = np.concatenate([column.mean(0) for column in columns]) if numbers.any() else np.zeros(256)
    found = (bits & np.packbits(share < RARE)).any(1)
    found &= numbers.any() and found[numbers].mean() < RARE
    usual = _listed(np.flatnonzero(share >= RARE))

    def words(one: np.void) -> str:
        return f"it holds {_listed(np.flatnonzero(np.unpackbits(one['values'])))}, and most masks {usual}"

    return Rule("values", found, words, (), np.zeros(len(facts)))


def _listed(values: np.ndarray) -> str:
    return ", ".join(map(str, values[:8].tolist())) + ", ..." * (len(values) > 8)
