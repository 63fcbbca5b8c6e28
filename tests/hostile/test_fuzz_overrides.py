"""Recorded overrides are read as Hydra reads them, or not at all.

`HUMANSEG_FUZZ=100000 pytest tests/hostile/test_fuzz_overrides.py` tries so many of each kind.
"""

import os
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hypothesis import given, settings
from hypothesis import strategies as st

from humanseg.runs.overrides import Override, parse, write

TRIED = settings(max_examples=int(os.environ.get("HUMANSEG_FUZZ", 300)), deadline=None)
PIECES = [*"ab_.1 09e+-/:,'\"\\[]{}%@*?|=~$é\n()", "true", "null", "inf", "nan", "${", "range(", "choice("]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
WORDS = {"true", "false", "null", "inf", "nan"}
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,5}", fullmatch=True).filter(lambda name: name.lower() not in WORDS)
SCALARS = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | st.text(max_size=12)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)


def plain(value: Any) -> Any:
    """What Hydra has read, without the grammar's own types."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    return value


@TRIED
@given(st.sampled_from(["a=", "+a.b=", "++a=", "~a=", "a/b@c.d=", "a", "-", "a.b@"]), TEXTS)
def test_what_is_read_is_what_hydra_reads_and_no_sweep(key, text):
    try:
        read = parse(key + text)
    except ValueError:
        return
    override = OverridesParser.create().parse_override(key + text)
    assert not override.is_sweep_override() and "${" not in text
    assert override.get_key_element() == read.sign + read.key
    assert read.sign == "~" or repr(plain(override.value())) == repr(read.value)


@TRIED
@given(VALUES)
def test_what_is_written_is_read_back_by_both(value):
    text = write(Override("", "a.b", value))
    if "${" in repr(value):
        return  # escaped for Hydra; no record may hold it
    assert repr(plain(OverridesParser.create().parse_override(text).value())) == repr(value)
    assert repr(parse(text).value) == repr(value)


@pytest.mark.parametrize(
    "text", ["~loss.classes", "~augment", "+a.b=1", "++a=[x,{b:1}]", r"name=a\ b", "a=", "a/b@a.c=x"]
)
def test_what_is_recorded_of_honest_overrides_is_read(text):
    override = OverridesParser.create().parse_override(text)
    read = parse(text)
    assert read.sign + read.key == override.get_key_element() and plain(override.value()) == (
        read.value or override.value()
    )
    assert parse(write(read)) == read


def test_a_deep_nest_is_refused_before_it_takes_the_stack():
    with pytest.raises(ValueError, match="nested more than"):
        parse("a=" + "[" * 5000)
