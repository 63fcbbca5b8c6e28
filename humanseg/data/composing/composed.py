"""``data=composed``: a fixed number of composed photographs, to validate on crowds and small people.

People and places are those that a mix' other sources hold back, so training sees neither; or those of two folders.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import chain
from zlib import crc32

import numpy as np

from humanseg.data.composing.composer import STREAM, ComposeConfig, Composer
from humanseg.data.files import folder
from humanseg.data.formats.empty import empty
from humanseg.data.masks import Rule
from humanseg.data.prepared import Shrunk
from humanseg.data.splits.parts import Part, Split
from humanseg.data.transforms import PERSON, shrink

VERSION = 1  # of how people are composed; another one makes other photographs, which are prepared anew
TRIES = 20  # places, before it is said that people are on all of them


class Crowds:
    """Composed photographs; each is the same whenever it is made. `draw_from` says of whom and where.

    Args:
        side: that it is for, ``val`` or ``test``. samples: how many. longest: their longer side, pixels.
        seed: decides who stands where. people, places: names of the mix' sources.
    """

    def __init__(
        self,
        side: str,
        samples: int,
        longest: int,
        seed: int,
        people: Sequence[str],
        places: Sequence[str],
        config: ComposeConfig,
    ):
        self.side, self.longest, self.seed, self.config = side, longest, seed, config
        self.people, self.places = people, places
        self.composer: Composer | None = None
        self.names = [f"composed_{number:05d}" for number in range(samples)]

    def __len__(self) -> int:
        return len(self.names)

    def draw_from(self, people: list[Part], places: list[Part]) -> None:
        """Take people and places from these parts of other sources."""
        self.draws_from = {"people": Split(people), "places": Split(places)}
        split = Split([replace(part, source=Shrunk(part.source, self.longest)) for part in (*people, *places)])
        known, total = sum(map(len, people)), len(split)
        self.composer = Composer(self.config, split, np.arange(known), np.arange(known, total))
        told = blake2b(repr((VERSION, self.side, self.longest, self.seed, self.config, known)).encode(), digest_size=8)
        for part in (*people, *places):
            keys = getattr(part.source, "keys", None)
            told.update(repr([part.source.names[index] for index in part.indices]).encode(errors="surrogateescape"))
            told.update(b"" if keys is None else np.asarray(keys)[np.asarray(part.indices)].tobytes())
        own = np.frombuffer(told.digest(), np.uint64) | np.uint64(1)  # no key is 0
        self.keys = own * (2 * np.arange(len(self), dtype=np.uint64) + np.uint64(1))

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 HxWx3 RGB and uint8 HxW class ids.

        Raises:
            ValueError: there are people at all places.
        """
        composer = self.composer
        rng = np.random.default_rng([self.seed, crc32(self.side.encode()), index, STREAM])
        for _ in range(TRIES):
            image, mask = composer.photographs[int(rng.choice(composer.places))]
            if not (mask == PERSON).any():
                image, mask = composer(image, mask, rng)
                if (mask == PERSON).any():
                    return image, mask
        raise ValueError(
            f"data=composed: of {TRIES} photographs of {', '.join(self.places) or 'data.places_root'} none is without people "
            "and has room for some: name sources with places, as data=empty"
        )

    def prepared(self, index: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """The sample with its longer side at most `longest` pixels."""
        return shrink(*self[index], longest)


def composed(
    samples: int,
    people: str | Sequence[str] = (),
    places: str | Sequence[str] = (),
    people_root: str | None = None,
    places_root: str | None = None,
    mask: Rule = "nonzero",
    longest: int = 640,
    least: int = 1,
    most: int = 8,
    height: Sequence[float] = (0.1, 1.2),
    split_seed: int = 0,
    cache_dir: str | None = None,
) -> dict[str, Crowds]:
    """Composed photographs; keys ``val`` and ``test``. Without folders `join` says of whom and where.

    Args:
        samples: how many. people, places: names of sources of the mix.
        people_root, mask: a folder of photographs and masks, as for `files.folder`. places_root: one as for `empty`.
        longest: the longer side, pixels. least, most, height: as for `ComposeConfig`.
        split_seed: decides who stands where. cache_dir: as for `files.folder`.

    Raises:
        ValueError: a value that is out of range (all listed), or a folder that can't be used.
    """
    people, places = ([names] if isinstance(names, str) else list(names) for names in (people, places))
    config = ComposeConfig.of({"p": 1, "least": least, "most": most, "height": list(height)}, "data")
    found = {side: Crowds(side, samples, longest, split_seed, people, places, config) for side in ("val", "test")}
    if people_root or places_root:
        if not (people_root and places_root) or people or places:
            raise ValueError(
                "data=composed: give data.people_root and data.places_root, or data.people and data.places in a mix"
            )
        shown = _part("data.people_root", folder, people_root, mask=mask, cache_dir=cache_dir)
        ground = _part("data.places_root", empty, places_root, cache_dir=cache_dir)
        for one in found.values():
            one.draw_from([shown], [ground])
    return found


def _part(key: str, source: Callable[..., dict], root: str, **settings) -> Part:
    """All photographs of a folder. What is wrong is told with this key."""
    try:
        photographs = source(root, **settings)["train"]
    except ValueError as error:
        raise ValueError(str(error).replace("data.root", key)) from error
    return Part(photographs, array("q", range(len(photographs))))


def join(parts: dict[str, dict[str, Part]]) -> dict[str, dict[str, Part]]:
    """The parts of a mix. Composed ones get the people and places that they show; a side without any is left out.

    Args:
        parts: by the source's name, by side.

    Raises:
        ValueError: a composed source names none, or one that is not there or holds nothing back.
    """
    joined = {}
    for name, own in parts.items():
        crowds = [side for side, part in own.items() if isinstance(part.source, Crowds)]
        ready = [side for side in crowds if own[side].source.composer or _filled(name, own[side].source, parts)]
        if crowds and not ready:
            source = own[crowds[0]].source
            wanted = ", ".join(dict.fromkeys(chain(source.people, source.places)))
            raise ValueError(
                f"data.sources.{name}: {wanted} hold no photographs back for it: give them val_split (only=val), or "
                "test_split (only=test)"
            )
        joined[name] = {side: part for side, part in own.items() if side not in crowds or side in ready}
    return joined


def _filled(name: str, source: Crowds, parts: dict[str, dict[str, Part]]) -> bool:
    """Let a source draw from what others hold back that are not composed. Returns whether they hold back people and places."""
    found = []
    others = [other for other, own in parts.items() if not any(isinstance(one.source, Crowds) for one in own.values())]
    for key, names in (("people", source.people), ("places", source.places)):
        unknown = [other for other in names if other not in others]
        if unknown or not names:
            where = f"data.sources.{name}" if name else "data"
            raise ValueError(
                f"{where}.{key}={names}: name sources of the mix beside it that are not composed"
                + (f", which are {', '.join(others)}" if others else ", or give data.people_root and data.places_root")
            )
        held = [parts[other][source.side] for other in names if source.side in parts[other]]
        found.append([part for part in held if len(part)])
    if not all(found):
        return False
    source.draw_from(*found)
    return True
