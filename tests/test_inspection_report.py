"""The page of an inspection, used by a script in a real browser: sorting, filters, zoom, slider, keys, print, names."""

import base64
import json
import re
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from measured import make_pair, record_of
from test_inspection import GPS, exif_of

from cracktool.html import data_block
from cracktool.images import read_image, write_mask
from cracktool.inspection import InspectionOptions, inspect_photo, read_record, write_collected
from cracktool.inspection.preview import mask_preview, photo_preview
from cracktool.inspection.report import report_html, write_report
from cracktool.measuring import read_severity

EVIL = '<img src=x onerror=alert(1)> "q" & ü'
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page of four photos: a wide crack, a thin one, none, and one with an evil name."""
    folder = tmp_path_factory.mktemp("report")
    options = InspectionOptions(mm_per_px=0.1, severity=read_severity("en1992-1-1"))
    pairs = [
        make_pair(folder, "wide", width=7.0, suffix=".jpg", exif=exif_of(gps=GPS)),
        make_pair(folder, "thin", angle=90, width=2.0, suffix=".jpg", exif=exif_of(gps={**GPS, 4: (11, 34, 20)})),
        make_pair(folder, "none"),
        make_pair(folder, EVIL, angle=70),
    ]  # fmt: skip
    write_mask(pairs[2].mask, np.zeros((160, 200), bool))
    records = [inspect_photo(pair, options).path for pair in pairs]
    _, failures = write_collected(folder / "found", records, ["report"])
    assert failures == []
    return folder / "found" / "report.html"


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium to show the page")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def shown(browser, report):
    """The page opened from its file; whatever the script complains about fails the test."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    problems, asked = [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("dialog", lambda dialog: problems.append("a dialog") or dialog.dismiss())
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    page.wait_for_selector("#rows tr")
    yield page
    assert problems == []
    assert all(url.startswith(("file:", "data:")) for url in asked)
    page.close()


def column(page, number):
    return page.locator(f"#rows tr td:nth-child({number})").all_inner_texts()


def number_of(text):
    return float(re.match(r"[\d.]+", text)[0])


def test_the_table_sorts(shown):
    widths = [number_of(text) for text in column(shown, 6)]
    assert widths == sorted(widths, reverse=True)
    assert len(widths) == 3
    shown.click("th[data-key=max] button")
    assert [number_of(text) for text in column(shown, 6)] == widths[::-1]
    assert shown.get_attribute("th[data-key=max]", "aria-sort") == "ascending"
    shown.click("th[data-key=photo] button")
    names = column(shown, 1)
    assert names[-2:] == ["thin.jpg", "wide.jpg"]
    assert EVIL + ".png" in names


def test_rows_scroll_below_the_head_of_the_table(shown):
    shown.set_viewport_size({"width": 1200, "height": 300})
    under_the_head = """() => {
        const head = document.querySelector("thead"), interval = document.querySelector("#rows td small");
        document.body.style.paddingBottom = "900px";
        window.scrollTo(0, interval.getBoundingClientRect().top + window.scrollY - head.offsetHeight / 2);
        const { x, y, width, height } = interval.getBoundingClientRect();
        return document.elementFromPoint(x + width / 2, y + height / 2).closest("thead") !== null;
    }"""
    assert shown.evaluate(under_the_head)


def test_single_readings_rank_behind_widths_that_are_borne_out(browser, report):
    record = report.parent / "wide.cracks.json"
    before = record.read_text()
    folder = report.parent.parent / "single"
    folder.mkdir()
    records = sorted(report.parent.glob("*.cracks.json"))
    try:
        record.write_text(before.replace('"width_max_borne_out":true', '"width_max_borne_out":false'))
        write_collected(folder, records, ["report"])
    finally:
        record.write_text(before)
    page = browser.new_page()
    page.goto((folder / "report.html").as_uri())
    page.wait_for_selector("#rows tr")
    assert column(page, 1)[-1] == "wide.jpg"
    widths = column(page, 6)
    assert [("single reading" in text) for text in widths] == [False, False, True]
    assert number_of(widths[-1]) > number_of(widths[0])
    assert f"{number_of(widths[0])} mm" in page.inner_text("body")
    page.close()


def test_the_table_filters(shown):
    before = shown.inner_html("#histogram")
    shown.fill("#text", "thin")
    assert column(shown, 1) == ["thin.jpg"]
    assert shown.inner_text("#shown") == "1 of 3 cracks"
    assert shown.inner_html("#histogram") != before
    shown.fill("#text", "")
    shown.fill("#width", "0.5")
    assert column(shown, 1) == ["wide.jpg"]
    shown.fill("#width", "")
    shown.select_option("#type", "longitudinal")
    assert set(column(shown, 3)) == {"longitudinal"}
    shown.select_option("#severity", "up to 0.2 mm")
    assert len(column(shown, 1)) < 3


def test_a_row_leads_to_its_crack_and_the_photo_zooms(shown):
    shown.select_option("#photo", label="wide.jpg (1)")
    whole = float(shown.get_attribute("#stage", "data-scale"))
    shown.click("#in")
    assert float(shown.get_attribute("#stage", "data-scale")) == pytest.approx(1.5 * whole)
    shown.focus("#stage")
    shown.keyboard.press("-")
    shown.keyboard.press("-")
    assert float(shown.get_attribute("#stage", "data-scale")) == pytest.approx(whole / 1.5)
    before = shown.locator(".photo").bounding_box()
    shown.keyboard.press("ArrowRight")
    assert shown.locator(".photo").bounding_box()["x"] == pytest.approx(before["x"] - 60)
    shown.keyboard.press("0")
    assert float(shown.get_attribute("#stage", "data-scale")) == pytest.approx(whole)
    box = shown.locator("#stage").bounding_box()
    shown.mouse.move(box["x"] + 50, box["y"] + 50)
    shown.mouse.wheel(0, -400)
    shown.wait_for_function(f"document.getElementById('stage').dataset.scale > {1.2 * whole}")
    shown.click("text=thin.jpg >> nth=-1")
    assert shown.inner_text("#said").startswith("Crack 1: longitudinal")
    assert shown.input_value("#photo") == "1"


def test_lines_lie_on_the_crack_of_the_photo(shown, report):
    shown.select_option("#photo", label="wide.jpg (1)")
    way = shown.get_attribute(".lines path", "d")
    points = np.array([[float(value) for value in pair.split()] for pair in re.split("[ML]", way) if pair])
    photo = read_image(report.parent.parent / "photos" / "wide.jpg")
    inner = points[5:-5].astype(int)
    assert len(inner) > 20
    assert photo[inner[:, 1], inner[:, 0]].mean() < 0.5 * photo.mean()
    colours = {
        shown.get_attribute(f".lines path >> nth={at}", "stroke") for at in range(shown.locator(".lines path").count())
    }
    assert "#f0390a" in colours  # the widest


def test_colours_in_mm_are_not_those_of_a_photo_without_scale(browser, tmp_path):
    pairs = [(make_pair(tmp_path, "scaled"), 0.1), (make_pair(tmp_path, "plain"), None)]
    records = [inspect_photo(pair, InspectionOptions(mm_per_px=scale)).path for pair, scale in pairs]
    write_collected(tmp_path / "found", records, ["report"])
    page = browser.new_page()
    page.goto((tmp_path / "found" / "report.html").as_uri())
    page.wait_for_selector("#rows tr")
    for name, grey in (("scaled", 0), ("plain", 1)):
        page.select_option("#photo", label=f"{name}.png (1)")
        assert page.locator('.lines path[stroke="#9e9e9e"]').count() == grey
        assert page.locator(".lines path:has(title)").count() == grey
    assert page.inner_text("#legend").endswith("no scale")
    page.close()


def test_the_legend_says_what_the_colours_mean(shown):
    def limits(text):
        low, high = [*map(float, re.findall(r"[\d.]+", text.partition(":")[0])), np.inf][:2]
        return (0.0, low) if text.startswith("<") else (low, high)

    named = shown.locator("#legend span:has(i)").evaluate_all(
        "all => all.map(each => [each.querySelector('i').style.backgroundColor, each.textContent])"
    )
    bars = shown.locator("#histogram rect").evaluate_all(
        "all => all.map(each => [getComputedStyle(each).fill, each.textContent])"
    )
    meaning = {colour: limits(text) for colour, text in named if re.search(r"\d", text)}
    assert len(bars) > 3
    for colour, text in bars:
        (low, high), (least, most) = limits(text), meaning[colour]
        assert least <= low < high <= most, text


def test_the_slider_fades_the_overlay(shown):
    opacity = "getComputedStyle(document.querySelector('.lines')).opacity"
    shown.select_option("#photo", label="wide.jpg (1)")
    assert float(shown.evaluate(opacity)) == pytest.approx(0.8)
    shown.focus("#opacity")
    shown.keyboard.press("Home")
    assert float(shown.evaluate(opacity)) == 0
    shown.keyboard.press("End")
    assert float(shown.evaluate(opacity)) == 1
    assert float(shown.evaluate("getComputedStyle(document.querySelector('.over')).opacity")) == 0.5
    shown.uncheck("#mask")
    assert shown.evaluate("document.querySelector('.over').hidden")
    shown.uncheck("#lines")
    assert shown.evaluate("getComputedStyle(document.querySelector('.lines')).display") == "none"


def test_the_keyboard_is_enough(shown):
    shown.focus("#rows tr:first-child button")
    shown.keyboard.press("Enter")
    first = shown.inner_text("#said")
    shown.keyboard.press("ArrowDown")
    assert shown.inner_text("#said") != first
    assert shown.evaluate("document.activeElement.closest('tr').classList.contains('now')")
    shown.keyboard.press("ArrowUp")
    assert shown.inner_text("#said") == first
    shown.focus("#stage")
    shown.keyboard.press("n")
    assert shown.inner_text("#said") != first


def test_photos_are_on_the_map(shown):
    assert shown.locator("#map .dot").count() == 2
    shown.focus("#map .dot >> nth=1")
    shown.keyboard.press("Enter")
    assert shown.input_value("#photo") == "1"
    west, east = (float(shown.get_attribute(f"#map .dot >> nth={at}", "cx")) for at in (1, 0))
    assert west < east  # 8 seconds of longitude west


def test_an_evil_name_is_text(shown):
    assert shown.evaluate("document.querySelectorAll('img[src=x]').length") == 0
    assert EVIL in shown.inner_text("#rows")


def test_the_page_says_which_standard_the_classes_are_of(report):
    text = report.read_text()
    assert "Classes after EN 1992-1-1:2004, table 7.1N" in text
    assert "Check against your edition and national annex." in text


def test_the_page_shows_the_standard(shown):
    assert "Classes after EN 1992-1-1:2004, table 7.1N" in shown.inner_text("#about")


def test_light_and_dark(shown):
    back = "getComputedStyle(document.querySelector('thead th')).backgroundColor"
    colours = []
    for scheme in ("light", "dark"):
        shown.emulate_media(color_scheme=scheme)
        colours.append(shown.evaluate(back))
    assert colours[0] != colours[1]


def test_print_shows_the_table_and_the_photos(shown):
    shown.emulate_media(media="print")
    shown.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not shown.is_visible("#viewing")
    assert shown.locator("#gallery figure").count() == 3
    frame = shown.locator("#gallery .frame").first.bounding_box()
    assert frame["width"] == pytest.approx(525, abs=3)  # 420 px high
    assert shown.locator("#gallery .lines path").count() >= 3
    shown.evaluate("dispatchEvent(new Event('afterprint'))")
    assert shown.locator("#gallery figure").count() == 0


@pytest.mark.slow
def test_a_thousand_photos(browser, report):
    """Ten thousand cracks: the page answers within seconds."""
    record = read_record(report.parent / "wide.cracks.json")
    cracks = tuple(
        replace(record.cracks[0], row={**record.cracks[0].row, "crack": number, "id": f"wide/{number}"})
        for number in range(1, 11)
    )
    path = report.parent / "many.html"
    write_report(path, [replace(record, cracks=cracks, row={**record.row, "cracks": 10})] * 1000)
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("#rows tr")
    assert page.inner_text("#shown") == "10000 of 10000 cracks"
    assert page.locator("#rows tr").count() == 300
    clock = "() => { const began = performance.now(); list(); return performance.now() - began; }"
    assert page.evaluate(clock) < 1500
    page.click("#more")
    assert page.locator("#rows tr").count() == 1300
    page.close()


def test_the_page_holds_all_it_shows(report):
    page = report.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)\s*=\s*["']?https?:""", page)
    assert "default-src 'none'" in page
    assert "<img src=x" not in page


def test_data_of_a_page_cannot_end_its_block():
    block = data_block("x", ["</script><script>alert(1)"])
    assert block.count("<script") == block.count("</script>") == 1
    assert json.loads(block.split(">", 1)[1].rsplit("<", 1)[0]) == ["</script><script>alert(1)"]


def test_previews_are_small_and_keep_hairlines(tmp_path):
    mask = np.zeros((1000, 1501), bool)
    mask[500] = mask[:, 1500] = True
    write_mask(tmp_path / "m.png", mask)
    url, cell = mask_preview(tmp_path / "m.png", 160)
    small = cv2.imdecode(np.frombuffer(base64.b64decode(url.split(",")[1]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert cell == 10
    assert small.shape == (100, 151, 4)
    assert (small[50, :, 3] == 255).all()
    assert (small[:, 150, 3] == 255).all()
    assert small[:50, :150, 3].max() == 0
    cv2.imwrite(str(tmp_path / "p.jpg"), np.full((900, 1200, 3), (0, 0, 255), np.uint8))
    photo = base64.b64decode(photo_preview(tmp_path / "p.jpg", 160).split(",")[1])
    assert read_image(photo).shape == (120, 160, 3)
    assert read_image(photo)[60, 80].tolist() == pytest.approx([255, 0, 0], abs=8)
    assert photo_preview(tmp_path / "none.jpg", 160) == ""


def test_the_page_names_what_failed(browser, tmp_path):
    record, path = record_of(make_pair(tmp_path)), tmp_path / "found" / "report.html"
    write_report(path, [record], [f"{EVIL}{number}.jpg: not a picture" for number in range(30)])
    page = browser.new_page()
    page.goto(path.as_uri())
    said = page.locator("#failed").inner_text()
    assert said.startswith(f"Not on this page, as it failed: {EVIL}0.jpg: not a picture; {EVIL}1.jpg")
    assert said.endswith("; and 10 more.")
    page.close()


def test_pages_of_one_file_are_told_apart_and_not_replaced_by_its_first(tmp_path):
    pair = make_pair(tmp_path)
    record = record_of(pair)
    second = replace(record, made_from={**record.made_from, "page": 1})
    assert photo_preview(pair.photo, 640, page=1) == ""  # it has none by now
    html = "".join(report_html([record, second], tmp_path))
    (one, two) = json.loads(re.search('id="data">(.*?)</script>', html)[1])["photos"]
    assert (one[0][-5:], one[1]) == ("a.png", "photos/a.png")
    assert (two[0][-13:], two[1]) == ("a.png, page 1", "")


def test_a_page_of_no_cracks_and_of_no_scale(tmp_path):
    record = record_of(make_pair(tmp_path))
    assert '"mm"' not in "".join(report_html([record], tmp_path)).split('id="data"')[1].split("</script>")[0]
    assert "Crack inspection" in "".join(report_html([], tmp_path))
