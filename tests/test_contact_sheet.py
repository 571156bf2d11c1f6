import base64
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from cracktool.datasets.checking import check
from cracktool.datasets.contact_sheet import sheet_html, write_sheet
from cracktool.datasets.findings import Checked, CheckedImage, Finding
from cracktool.datasets.prepare import prepare
from cracktool.images import encode_png, read_image
from cracktool.manifest import Entry


def image(name, *, split="train", crack=0.0123, thumbnail=b"jpeg"):
    entry = Entry(
        image=f"images/{name}", mask="", split=split, group=name, source=name, height=8, width=9,
        crack_fraction=crack, label="cracked", sha1="",
    )  # fmt: skip
    return CheckedImage(folder=Path("data/a b"), entry=entry, thumbnail=thumbnail)


class Cards(HTMLParser):
    """The figures of a page in order: their attributes, links and text; and every attribute of the page."""

    def __init__(self, page):
        super().__init__()
        self.cards, self.attributes = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag == "figure":
            self.cards.append({**dict(attrs), "links": [], "text": ""})
        if tag == "a" and self.cards:
            self.cards[-1]["links"].append(dict(attrs)["href"])

    def handle_data(self, text):
        if self.cards:
            self.cards[-1]["text"] += text


def page_of(images, findings=()):
    return sheet_html(Checked(folders=(Path("data/a b"),), images=tuple(images), findings=tuple(findings)), Path("out"))


def test_cards_say_what_was_found_worst_first():
    images = [image("clean.jpg"), image("soft.jpg", crack=-1.0), image("train.jpg"), image("test.jpg", split="test")]
    clean, soft, train, test = (each.name for each in images)
    findings = [
        Finding(kind="leak", image=train, other=test, detail="43% of the scene, train and test"),
        Finding(kind="soft", image=soft, detail="5% of its pixels"),
        Finding(kind="shifted", image="data/a b", detail="all masks: darkest 3 px up of it"),
    ]
    page = page_of(images, findings)
    cards = Cards(page).cards
    assert [card["data-name"] for card in cards] == [test, train, soft, clean]
    assert [card["data-kinds"] for card in cards] == ["leak", "leak", "soft", ""]
    assert "43% of the scene" in cards[0]["text"]
    assert cards[0]["links"][1] == f"#{cards[1]['id']}"
    assert cards[1]["links"][1] == f"#{cards[0]['id']}"
    assert "test, 1.23% crack" in cards[0]["text"]
    assert "train, no mask" in cards[2]["text"]
    assert (cards[0]["data-split"], cards[0]["data-crack"]) == ("test", "0.012300")
    assert "4 photos, 3 findings" in page
    assert "all masks: darkest 3 px up of it" in page[: page.index("<figure")]
    assert "with findings (3)" in page
    assert "without findings (1)" in page


def test_file_names_cannot_break_the_page():
    name = "<script>alert('x')</script> & \"q\" #1?.jpg"
    page = page_of([image(name)], [Finding(kind="soft", image=image(name).name, detail="<b>")])
    (card,) = Cards(page).cards
    assert card["data-name"] == f"data/a b/images/{name}"
    assert page.count("<script>") == 1
    assert unquote(card["links"][0]) == f"../data/a b/images/{name}"
    assert "#" not in card["links"][0]
    assert "?" not in card["links"][0]


def test_nothing_is_fetched():
    page = page_of([image("a.jpg"), image("b.jpg", thumbnail=b"")])
    assert "default-src 'none'" in unescape(page)
    sources = [value for name, value in Cards(page).attributes if name in ("src", "srcset")]
    assert [source[:23] for source in sources] == ["data:image/jpeg;base64,"]
    assert not re.search(r"https?:|@import|url\(", page)
    assert "no picture" in page


def test_thumbnails_show_the_outline_and_stay_small(tmp_path):
    raw = tmp_path / "raw"
    photo, mask = np.full((480, 640, 3), 120, np.uint8), np.zeros((480, 640), np.uint8)
    photo[:, 300:320], mask[:, 300:320] = 30, 255
    for kind, data in (("images", photo), ("masks", mask)):
        (raw / kind).mkdir(parents=True)
        (raw / kind / "ä.png").write_bytes(encode_png(data))
    table = prepare("folder", raw, tmp_path / "data").manifest
    path = tmp_path / "sheets" / "sheet.html"
    write_sheet(check([table.parent], thumbnails=True), path)
    page = path.read_text(encoding="utf-8")
    (card,) = Cards(page).cards
    assert (path.parent / unquote(card["links"][0])).resolve() == (table.parent / "images" / "ä.png").resolve()
    data = base64.b64decode(re.search(r"base64,([^\"]+)", page)[1])
    small = read_image(data).astype(int)
    assert small.shape == (180, 240, 3)
    assert len(data) < 12_000
    magenta = (small[..., 0] > 180) & (small[..., 1] < 90)
    assert set(np.flatnonzero(magenta.mean(axis=0) > 0.5)) <= {110, 111, 112, 119, 120, 121}
    assert magenta.any(axis=1).all()
    assert small[90, 116].max() < 70, "the crack itself stays to be seen"


@pytest.mark.parametrize("count", [0, 1])
def test_sheets_of_few_photos(count):
    page = page_of([image("a.jpg")] * count)
    assert len(Cards(page).cards) == count
