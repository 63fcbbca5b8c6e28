"""A recorded mix brings the sources that YAMLs of conf/ have, at the one place where sources are."""

from pathlib import Path

import pytest

from humanseg.cli.recorded_overrides import usable
from humanseg.runs import trust

MIX, LEAF = {"_target_": "humanseg.data.mix.together"}, {"_target_": "humanseg.data.files.folder"}


def test_a_source_has_what_its_yaml_has_and_what_any_source_of_a_mix_may_have():
    source = LEAF | {"root": "x", "weight": 2, "only": "val", "val_split": 0.5}
    trust.refuse_strange({"data": MIX | {"sources": {"a": source, "b-c": LEAF}}}, ("data",))


@pytest.mark.parametrize(
    "sources",
    [
        {"a": {"_target_": "os.system", "command": "x"}},
        {"a": LEAF | {"evil": 1}},
        {"a": LEAF | {"root": LEAF}},
        {"a": LEAF | {"root": [LEAF]}},
        {"a": LEAF | {"weight": LEAF}},
        {"a": MIX | {"sources": {"b": LEAF}}},
        {"a": {"b": LEAF}},
        {"a": LEAF | {"_partial_": True}},
        {"_args_": LEAF},
        {"a b": LEAF},
        LEAF,
    ],
)
def test_a_recorded_mix_names_no_code_anywhere_else(sources):
    with pytest.raises(trust.Strange):
        trust.refuse_strange({"data": MIX | {"sources": sources}}, ("data",))


@pytest.mark.parametrize("text", ["+data@data.sources.a=folder", "+data@data.sources.a-b=pairs", "~data.sources.a"])
def test_a_recorded_override_may_add_a_source_or_take_it_away(text):
    assert usable([text], [], Path("x")) == [text]


@pytest.mark.parametrize(
    "text",
    [
        "+data@data.sources=folder", "+data@data.root=folder", "+data@data.sources.a.b=folder", "+data@model=folder",
        "+data@_global_=folder", "+data@hydra.x=folder", "+data@data.sources.a=../x", "+model@data.sources.a=unet_mbv2",
        "+data.sources.a._target_=os.system", "data.sources={a:{_target_:os.system}}",
        "++data.sources.a.root={_target_:humanseg.data.files.folder}",
    ],
)  # fmt: skip
def test_a_recorded_override_puts_nothing_anywhere_else(text):
    with pytest.raises(ValueError, match="what a record may not bring"):
        usable([text], [], Path("x"))
