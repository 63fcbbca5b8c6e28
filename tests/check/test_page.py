"""check.html: what strangers wrote stays text, the page stays small, and keys go through it and save a list."""

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import cv2
import markupsafe
import numpy as np
import pytest
from browser import CHROMIUM, browser
from conftest import ON_FILES, summary, write_people

from humanseg.check import page
from humanseg.check import record as record_of_check
from humanseg.check.page import Photo, Sheet

in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page in")
INJECTION = "</script><script>document.title='run'</script>&\"'{{data}}"
STRANGE = f"/d/{INJECTION}.jpg"
BROKEN, TURNED, LINES = "/d/b\udcff.jpg", "/d/\u202egpj.a.jpg", "/d/two\nlines.jpg"


def photo(path: str, **others: object) -> Photo:
    mask = np.zeros((12, 16), np.uint8)
    mask[2:9, 3:9], mask[9:, :] = 255, 128
    jpeg, png, seen = (
        cv2.imencode(suffix, picture)[1].tobytes()
        for suffix, picture in ((".jpg", np.full((12, 16, 3), 90, np.uint8)), (".png", mask), (".png", mask[::-1]))
    )
    facts = {"source": "a", "split": "train", "width": 640, "height": 480, "predicted": seen} | others
    return Photo(path, jpeg=jpeg, mask=png, numbers={"person": 12.5}, **facts)


def record(sheets: list[Sheet], **others: object) -> dict:
    """What check.json has: a finding for each card of a kind."""
    findings = [
        {"kind": sheet.name, "paths": list(card), "words": f"{card[0]} is odd", "numbers": {}}
        for sheet in sheets for card in sheet.cards
    ]  # fmt: skip
    kinds = {
        sheet.name: {"severity": "warning", "title": sheet.title, "advice": INJECTION, "count": len(sheet.cards)}
        for sheet in sheets
    }
    sources = {name: {"samples": {"train": 3}, "broken": 0, "formats": {"JPEG": 3}} for name in ("a", INJECTION)}
    counts = {name: [1, 2] for name in sources}
    distributions = {"person": {"title": "share", "unit": "%", "edges": [0, 50, 100], "counts": counts}}
    told = {"written": "2026-01-01T00:00:00", "command": INJECTION, "checkpoint": INJECTION, "sources": sources}
    return told | {"kinds": kinds, "findings": findings, "distributions": distributions} | others


def numbered(sheets: list[Sheet]) -> list[Sheet]:
    """Sheets whose cards show the findings of `record`, in their order."""
    starts = np.cumsum([0, *(len(sheet.cards) for sheet in sheets)]).tolist()
    return [
        Sheet(sheet.name, sheet.title, sheet.words, sheet.cards, list(range(start, start + len(sheet.cards))))
        for sheet, start in zip(sheets, starts, strict=False)
    ]


@pytest.fixture
def hostile(tmp_path) -> Path:
    """A page of names that try to become code, or can't stand in a list."""
    photos = [photo(STRANGE), photo(BROKEN, source=INJECTION), photo(TURNED), photo(LINES, split="val")]
    sheets = numbered([
        Sheet("unlabelled", "nobody told", INJECTION, [(STRANGE,), (BROKEN,)], []),
        Sheet("near", "twice", "", [(TURNED, LINES)], []),
    ])  # fmt: skip
    return page.write(tmp_path, record(sheets), sheets, {one.path: one for one in photos})


class Tags(HTMLParser):
    """All tags of a page with their attributes, and the data for its script."""

    def __init__(self, text: str):
        super().__init__()
        self.found, self.data = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.found and self.found[-1] == ("script", {"type": "application/json", "id": "data"}):
            self.data += data


def data(file: Path) -> dict:
    return json.loads(Tags(file.read_text()).data)


def test_what_strangers_wrote_stays_text(hostile):
    text = hostile.read_text()
    found = Tags(text).found
    nonce = re.search("script-src 'nonce-([^']+)'", text)[1]
    scripts = [attributes for tag, attributes in found if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {"nonce": nonce}]
    assert str(markupsafe.escape(INJECTION)) in text and "default-src 'none'" in text
    assert not [name for _, attributes in found for name in attributes if name.startswith("on")]
    assert not [attributes for _, attributes in found if "src" in attributes]
    shown = {one["name"] for one in data(hostile)["photos"]}
    assert shown == {STRANGE, r"/d/b\udcff.jpg", r"/d/\u202egpj.a.jpg", r"/d/two\nlines.jpg"}
    assert "HTML" not in (page.HERE / "page.js").read_text().replace("never HTML", "")  # it sets texts


def test_a_link_leads_to_a_photograph_alone(tmp_path):
    photos = {path: photo(path) for path in ("javascript:x.jpg", "/d/a#?.jpg", "/d/page.html", "crowds 12")}
    sheets = [Sheet("random", "any", "", [(path,) for path in photos], [None] * len(photos))]
    one = Sheet("near", "twice", "", [("/d/a#?.jpg",)], [0])
    written = page.write(tmp_path, record([one]), sheets, photos)
    assert ">1 warning<" in written.read_text()
    links = [one["link"] for one in data(written)["photos"]]
    assert links[0].endswith("/javascript%3Ax.jpg") and links[1].endswith("/d/a%23%3F.jpg") and links[2:] == ["", ""]


def test_a_page_stays_small_and_each_sheet_has_its_first_cards(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "LARGEST", 40_000)
    sheets = [
        Sheet(name, name, "", [(f"/d/{name}{number}.jpg",) for number in range(count)], [None] * count)
        for name, count in (("random", 900), ("extreme/person", 3), ("extreme/people", 900))
    ]
    photos = {path: photo(path) for sheet in sheets for card in sheet.cards for path in card}
    written = page.write(tmp_path, record([]), sheets, photos)
    told = data(written)
    counts = [len(sheet["cards"]) for sheet in told["sheets"]]
    assert counts[1] == 3 and counts[0] > 5 and 0 <= counts[0] - counts[2] <= 1
    assert [sheet["count"] for sheet in told["sheets"]] == [900, 3, 900]
    assert len(json.dumps(told["photos"])) < 41_000


@in_chromium
def test_keys_go_through_what_a_filter_shows(hostile, tmp_path):
    with browser(tmp_path) as tab:
        tab.open(hostile)
        assert tab.value("document.title") == "6 photographs · humanseg"
        names = "photographs.map(element => shows.get(element).photo.name)"
        assert tab.value(names) == [STRANGE, r"/d/b\udcff.jpg", r"/d/\u202egpj.a.jpg", r"/d/two\nlines.jpg"]
        tab.press("ArrowRight", " ", "ArrowRight", "Enter")
        assert tab.value("large.open && large.querySelectorAll('canvas').length") == 4
        assert becomes(tab, "large.querySelectorAll('canvas')[3].width === 16")  # it is painted
        tab.press(" ", "ArrowRight", "ArrowRight", " ", "Enter")  # the last one can't be ticked
        assert not tab.value("large.open")
        tab.press("ArrowLeft", " ", "m", "s")
        assert tab.value("[ticked.textContent, view.value]") == ["3 ticked", "outline"]
        assert saved(tmp_path) == b"".join(
            f"{one}\n".encode(errors="surrogateescape") for one in (STRANGE, BROKEN, TURNED)
        )

        tab.value(f"sources.value = '=' + {json.dumps(INJECTION)}; sources.dispatchEvent(new Event('change'))")
        assert tab.value(names) == [r"/d/b\udcff.jpg"]
        tab.value("sources.value = ''; kinds.value = 'near'; kinds.dispatchEvent(new Event('change'))")
        assert tab.value(names) == [r"/d/\u202egpj.a.jpg", r"/d/two\nlines.jpg"]
        again = (tab.open(hostile) or tab.value("ticked.textContent") for _ in range(20))
        assert "3 ticked" in again  # the browser remembers, as soon as its storage has written it
        assert not [told for told in tab.errors if "ERR_FILE_NOT_FOUND" not in told]  # their files are nowhere


def becomes(tab, condition: str) -> bool:
    """Whether a page's condition comes true, within a minute."""
    return tab.value(
        f"new Promise(done => {{ let left = 3000; setInterval(() => ({condition} || !left--) && done(left > 0), 20); }})"
    )


def saved(folder: Path) -> bytes:
    """The list that the page saves, as soon as it is whole."""
    while not (file := folder / "exclude.txt").is_file():
        time.sleep(0.02)
    return file.read_bytes()


@in_chromium
def test_training_leaves_out_what_was_ticked(run, tmp_path):
    people = write_people(tmp_path / "people", 12, (480, 400))
    files = ["data=folder", f"data.root={people}", "data.image_size=32"]
    done = run("mode=check", *files)
    with browser(tmp_path) as tab:
        tab.open(Path(done.stdout.splitlines()[0].split(maxsplit=1)[1]) / "check.html")
        assert "extreme/quality" not in tab.value("check.sheets.map(sheet => sheet.name)")  # PNGs have no JPEG quality
        assert tab.value("document.querySelectorAll('.chart').length") == len(record_of_check.QUANTITIES) - 1
        tab.value("kinds.value = 'random'; kinds.dispatchEvent(new Event('change'))")
        tab.press("j", "x", "j", "j", "x", "s")
        names = tab.value("[...chosen]")
        assert saved(tmp_path).decode().splitlines() == names and len(names) == 2
        tab.press("Enter")
        assert becomes(tab, "large.querySelector('canvas').width === 400")  # the photograph itself, and no thumbnail
        assert not tab.errors
    folder = run(
        *ON_FILES, *files, "data.val_split=3", "trainer.epochs=1", f"data.exclude={tmp_path}/exclude.txt"
    ).folder
    assert summary(folder)["left_out"]["excluded"] == 2
