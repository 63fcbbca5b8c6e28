"""What a finding is, and the kinds there are."""

from dataclasses import dataclass, field
from typing import NamedTuple

from humanseg.check.scan import Sample

SEVERITIES = ("error", "warning", "note")  # it stops or spoils a training; a sample is probably wrong; worth knowing


class Kind(NamedTuple):
    """One of SEVERITIES; what many of the kind are called; and what to do about them."""

    severity: str
    title: str
    advice: str


KINDS = {  # in the order in which they are shown
    "refused": Kind("error", "what training would refuse", "see the sentence"),
    "unreadable": Kind("error", "files that can't be used", "mend or remove them, or data.on_error=skip"),
    "copy_across": Kind("error", "photographs that train and validate or test", "data.drop_duplicates=true"),
    "near_across": Kind("error", "near-duplicates of training photographs", "data.drop_duplicates=true"),
    "group_across": Kind("error", "groups on both sides of a split", "data.group_by keeps them together"),
    "contradiction": Kind("warning", "photographs that are there twice with different masks", "one of both is wrong"),
    "full": Kind("warning", "masks that are nothing but person", "look at the mask"),
    "empty": Kind("warning", "masks without anybody among masks with people", "look at the mask"),
    "values": Kind("warning", "masks with other values than the rest", "data.mask says what values mean"),
    "misplaced": Kind("warning", "masks whose edges lie beside the photograph's", "shifted, turned, or another's mask"),
    "unlabelled": Kind("warning", "people that the network sees and no label has", "label them, or exclude"),
    "nobody": Kind("warning", "labels where the network sees nobody", "look at the mask"),
    "edge": Kind("warning", "edges that are off by the network", "look at the mask"),
    "copy": Kind("warning", "copies on one side of a split", "data.drop_duplicates=true"),
    "near": Kind("warning", "near-duplicates on one side of a split", "data.drop_duplicates=true"),
    "mostly_ignored": Kind("warning", "masks that are mostly ignored", "they train little"),
    "scattered": Kind("note", "masks in many parts", "specks, or crowds"),
    "flat": Kind("note", "photographs of nearly one colour", "nothing can be learnt there"),
    "dark": Kind("note", "dark photographs", ""),
    "bright": Kind("note", "bright photographs", ""),
    "blurred": Kind("note", "photographs without anything sharp", ""),
    "compressed": Kind("note", "JPEGs of low quality", ""),
    "small": Kind("note", "photographs smaller than the network's input", ""),
    "long": Kind("note", "photographs much longer than wide, or wider than high", ""),
    "either_way": Kind(
        "note", "photographs that EXIF turns, with masks that fit either way", "look whether they agree"
    ),
    "resized": Kind("note", "masks of another size than their photograph", "they are resized"),
    "metadata": Kind("note", "photographs with broken metadata", ""),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or odd.

    Args:
        kind: one of KINDS.
        samples: the one that is meant, or a pair: the one that trains first; none where a source as a whole is meant.
        words: one sentence. numbers: what it was judged by.
        rank: within its kind the highest comes first.
        whole: the name of the source that is meant as a whole.
    """

    kind: str
    samples: tuple[Sample, ...]
    words: str
    numbers: dict[str, float] = field(default_factory=dict)
    rank: float = 0.0
    whole: str = ""

    @property
    def severity(self) -> str:
        return KINDS[self.kind].severity

    @property
    def paths(self) -> list[str]:
        return [one.path for one in self.samples]

    @property
    def source(self) -> str:
        """That of the first sample; empty where there is one source, or none is meant."""
        return self.samples[0].source if self.samples else self.whole

    @property
    def split(self) -> str:
        """That of the first sample."""
        return self.samples[0].split if self.samples else ""


def in_order(findings: list[Finding]) -> list[Finding]:
    """Problems first, by kind; within a kind by rank, and of one rank in the order of the samples."""
    places = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(findings, key=lambda one: (places[one.kind], -one.rank))
