"""Whatever stands in a run's records, a report ranks the other runs, and what it writes can be read.

HUMANSEG_FUZZ=20000 tries as many inputs of each kind, other ones each time.
"""

import csv
import json
import os
import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_records import ACTING, GOOD

from humanseg import report
from humanseg.runs.atomic import write_table
from humanseg.runs.plain import refuse_other_than_plain
from humanseg.runs.reading import read_table, read_yaml
from humanseg.runs.summary import KINDS
from humanseg.terminal import ACTING as CATEGORIES
from humanseg.terminal import JOINERS

WANTED = os.environ.get("HUMANSEG_FUZZ")
fuzzed = settings(
    max_examples=int(WANTED or 25), derandomize=not WANTED, database=None, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip

MARKUP = "'\"></script><script>{{data}}<img src=x onerror=alert(1)>"
texts = st.text(st.characters(), max_size=30) | st.sampled_from([ACTING, MARKUP, "=1+1", "-1"])
leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=8
)
numbers = st.none() | st.integers(-10, 10**20) | st.floats()
RIGHT = {
    "status": st.sampled_from(["running", "completed", "interrupted", "failed"]),
    "monitor": texts,
    "monitor_mode": st.sampled_from(["max", "min"]),
    **dict.fromkeys(("monitored", "seconds", "epoch"), numbers),
    **dict.fromkeys(("best", "metrics", "speed"), st.dictionaries(texts | st.sampled_from(["val/iou", "epoch"]), numbers, max_size=4)),
    "overrides": st.lists(texts | st.builds("{}={}".format, texts, texts), max_size=4),
    "tags": st.lists(leaves, max_size=3),
    "error": texts,
    "seed": leaves,
    "name": texts,
    "environment": st.fixed_dictionaries({}, optional={"commit": texts, "command": texts}),
}  # fmt: skip
right = st.fixed_dictionaries({}, optional=RIGHT)
wrong = st.dictionaries(st.sampled_from([*KINDS]) | texts, values, max_size=3)
objects = st.builds(
    lambda keep, own, bad: (GOOD if keep else {}) | own | bad, st.booleans(), right, wrong | st.just({})
)


def spliced(content: bytes, at: int, length: int, other: bytes) -> bytes:
    at %= len(content) + 1
    return content[:at] + other + content[at + length :]


def damaged(contents: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Some of them whole, some with a part that is replaced."""
    place = st.integers(0, 10_000), st.integers(0, 50), st.binary(max_size=8)
    return contents | st.builds(spliced, contents, *place) | st.binary(max_size=200)


def as_csv(rows: list[list[str]]) -> bytes:
    return "\n".join(",".join(row) for row in rows).encode(errors="surrogatepass")


jsons = damaged((objects | values).map(lambda value: json.dumps(value).encode()))
sweeps = damaged(
    st.fixed_dictionaries({}, optional={name: st.lists(texts) | values for name in ("overrides", "hydra", "status", "environment")})
    .flatmap(lambda told: st.builds(lambda jobs: told | {"jobs": jobs}, st.lists(st.lists(texts, max_size=3), max_size=4) | values))
    .map(lambda value: json.dumps(value).encode())
)  # fmt: skip
parameters = st.fixed_dictionaries({"choices": st.lists(texts, min_size=1, max_size=3)}) | values
objectives = st.dictionaries(st.just("val/iou") | texts, st.sampled_from(["max", "min"]), max_size=3)
searches = damaged(
    st.builds(
        lambda space, ways: {"space": space, "objectives": ways, "constant": [], "trials": 3, "left": 1},
        st.dictionaries(texts, parameters, max_size=3),
        objectives,
    )
    .map(lambda search: {"jobs": [], "overrides": [], "hydra": [], "search": search})
    .map(lambda value: json.dumps(value).encode())
)
cells = texts | st.floats().map(str) | st.integers().map(str)
names = st.sampled_from(["epoch", "val/iou", "train/loss", "val/loss"]) | texts
tables = damaged(
    st.builds(
        lambda head, body: as_csv([head, *body]),
        st.lists(names, max_size=4),
        st.lists(st.lists(cells, max_size=5), max_size=6),
    )
)
yamls = damaged(
    st.text("{}[]&*!|>?-: \n\"'#%@,019.xeab<~", max_size=60).map(str.encode)
    | values.map(lambda value: json.dumps(value).encode())
)


class Tags(HTMLParser):
    """The tags of a page, and the names of their attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.scripts, self.names, self.found = 0, set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.scripts += tag == "script"
        self.found.add(tag)
        self.names |= {name for name, _ in attributes}


def acts(text: str) -> list[str]:
    return [one for one in text if unicodedata.category(one) in CATEGORIES and one not in JOINERS and one != "\n"]


def put(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """A sound run, and a place for another one."""
    pytest.importorskip("plotly", reason="the extra `report` is not installed")
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "")
    monkeypatch.setattr("humanseg.runs.atomic.flush", lambda path: None)  # no power will fail here
    put(tmp_path / "runs" / "0_a" / "summary.json", json.dumps(GOOD).encode())
    write_table(tmp_path / "runs" / "0_a" / "metrics.csv", ["epoch", "val/iou"], [{"epoch": 1, "val/iou": 0.5}])
    return tmp_path / "runs"


def check(folder: Path) -> None:
    """Report, and read all that a report writes."""
    told = report.write([folder], folder)
    assert not acts(told)
    with (folder / "leaderboard.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.reader(file))
    assert {len(row) for row in table} == {len(table[0])}
    assert "completed" in next(row for row in table if row[1] == "0_a")
    assert not [cell for row in table for cell in row if re.match(r"[=+@\t\r]", cell) or re.match(r"-(?![\d.])", cell)]
    page = (folder / "report.html").read_text(encoding="utf-8")
    tags = Tags(page)
    assert not acts(page) and tags.scripts == 3 and tags.found <= TAGS and tags.names <= ATTRIBUTES
    data = page.partition('id="data">')[2].partition("</script>")[0]
    assert "<" not in data
    json.loads(data, parse_constant=lambda name: pytest.fail(f"a browser reads no {name}"))


TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "header",
        "h1",
        "h2",
        "dl",
        "dt",
        "dd",
        "div",
        "section",
    ),
    *("table", "thead", "tbody", "tr", "th", "td", "ul", "li", "p", "a", "b", "br", "span", "code", "button", "script"),
}
ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "class", "scope", "type", "href", "title", "id", "nonce"),
    *("data-value", "data-job", "data-experiment", "aria-sort"),
}


@fuzzed
@given(content=jsons)
@example(
    content=json.dumps(
        GOOD | {"best": {f"val/{ACTING}": 1.0, "=x": 2}, "tags": [ACTING], "overrides": [ACTING]}
    ).encode()
)
@example(content=json.dumps(GOOD | {"error": MARKUP, "tags": [MARKUP], "overrides": [f"{MARKUP}={MARKUP}"]}).encode())
def test_any_summary(runs, content):
    put(runs / "1_b" / "summary.json", content)
    check(runs)


@fuzzed
@given(content=tables)
def test_any_table(runs, content):
    put(runs / "1_b" / "summary.json", json.dumps(GOOD).encode())
    put(runs / "1_b" / "metrics.csv", content)
    check(runs)


@fuzzed
@given(content=sweeps)
def test_any_sweep(runs, content):
    put(runs / "sweep.json", content)
    check(runs)


@fuzzed
@given(content=searches)
def test_any_search(runs, content):
    put(runs / "1_b" / "summary.json", json.dumps(GOOD).encode())
    put(runs / "sweep.json", content)
    check(runs)


@fuzzed
@given(content=yamls)
def test_any_yaml(runs, content):
    put(runs / "1_b" / ".hydra" / "overrides.yaml", content)
    check(runs)
    try:
        refuse_other_than_plain(read_yaml(runs / "1_b" / ".hydra" / "overrides.yaml"), "it", interpolations=True)
    except ValueError as error:
        assert "overrides.yaml" in str(error)


@fuzzed
@given(
    columns=st.lists(texts, min_size=1, max_size=4, unique=True),
    rows=st.lists(st.lists(texts, min_size=4, max_size=4), max_size=4),
)
def test_any_text_comes_back_from_a_table(tmp_path, columns, rows):
    columns, rows = ([plain(one) for one in columns], [[plain(one) for one in row] for row in rows])
    given = [dict(zip(columns, row, strict=False)) for row in rows]
    write_table(tmp_path / "table.csv", columns, given)
    assert list(read_table(tmp_path / "table.csv")) == [{name: row[name] for name in columns} for row in given]


def plain(text: str) -> str:
    """Without halves of characters, which no file in UTF-8 can hold."""
    return text.encode(errors="ignore").decode()
