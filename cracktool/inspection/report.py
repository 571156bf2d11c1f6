"""The page of an inspection: one HTML file with its tables, photos, widths and map, which needs no network.

Makes the data that ``report.js`` shows; how it looks is said in ``report.css``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

from cracktool import __version__
from cracktool.files import open_atomic, relative
from cracktool.html import data_block, page
from cracktool.inspection.preview import mask_preview, photo_preview
from cracktool.inspection.records import CrackRecord, LineRecord, PhotoRecord
from cracktool.inspection.schema import SCHEMA

_SIDES = ((100, 1600), (300, 1024), (100_000, 640))  # so many cracked photos -> px of their pictures: 60 MB at most
_SIDE_CLEAN = 320
_BINS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # classes of widths; in `report.js` too
_PER_OCTAVE, _FIRST = 4, -4  # of them: four per doubling, from 2^-4
_BODY = """<header><h1>Crack inspection</h1><p id="about"></p><p id="failed" class="note"></p>
<div id="tiles"></div></header>
<main>
<section id="viewing" aria-label="Photo">
<form class="bar" onsubmit="return false">
<label>Photo <select id="photo"></select></label>
<button type="button" id="previous" title="Previous photo (p)">&lsaquo;</button>
<button type="button" id="next" title="Next photo (n)">&rsaquo;</button>
<button type="button" id="out" title="Zoom out (-)">&minus;</button>
<button type="button" id="in" title="Zoom in (+)">+</button>
<button type="button" id="whole" title="Whole photo (0)">whole</button>
<label>Overlay <input type="range" id="opacity" min="0" max="100" value="80"></label>
<label><input type="checkbox" id="mask" checked> mask</label>
<label><input type="checkbox" id="lines" checked> widths</label>
<a id="original">file</a>
</form>
<div id="stage" tabindex="0" role="img" aria-label="Photo with its cracks; arrow keys move it, + and - zoom"></div>
<p id="legend"></p><p id="said" aria-live="polite"></p>
</section>
<section aria-label="Overview"><figure><figcaption>Widths along the cracks shown</figcaption><div id="histogram"></div>
</figure><figure id="where"><figcaption>Where the photos were taken</figcaption><div id="map"></div></figure></section>
<section id="listing" aria-label="Cracks">
<form class="bar" id="filters" onsubmit="return false">
<label>Find <input type="search" id="text" placeholder="photo, id, note"></label>
<label>Type <select id="type"><option value="">all</option></select></label>
<label id="classes">Severity <select id="severity"><option value="">all</option></select></label>
<label>Width from <input type="number" id="width" min="0" step="any"></label>
<label>Length from <input type="number" id="length" min="0" step="any"></label>
<output id="shown"></output>
</form>
<table><thead><tr id="head"></tr></thead><tbody id="rows"></tbody></table>
<button type="button" id="more">Show more rows</button>
</section>
<section id="gallery" aria-label="Photos, for print"></section>
</main>
"""


def write_report(path: Path, records: Iterable[PhotoRecord], failed: Sequence[str] = ()) -> None:
    """Write the page of an inspection.

    Photos are linked relative to it and shown at full size where they are still there; without them the pictures
    inside the page do.

    Args:
        path: The HTML file.
        records: The photos; gone through several times, one in memory at a time.
        failed: What is not among them, and why, a line each.

    Raises:
        OutputError: It cannot be written.
    """
    with open_atomic(path) as file:
        for piece in report_html(records, path.parent, failed):
            file.write(piece.encode("utf-8", "replace"))


def report_html(records: Iterable[PhotoRecord], folder: Path, failed: Sequence[str] = ()) -> Iterator[str]:
    """Give the page piece by piece; `folder` is where it will lie."""
    yield from page(
        "Crack inspection",
        _body(records, folder, failed),
        package=__package__,
        name="report",
        pictures="data: file: 'self'",  # the photos themselves, where they lie beside the page
    )


def _body(records: Iterable[PhotoRecord], folder: Path, failed: Sequence[str]) -> Iterator[str]:
    yield _BODY
    yield data_block("data", _overview(records, folder) | {"failed": failed})
    cracked = sum(bool(record.cracks) for record in records)
    side = next(side for most, side in _SIDES if cracked <= most)
    for number, record in enumerate(records):
        yield data_block(f"photo{number}", _pictures(record, side if record.cracks else _SIDE_CLEAN))


def _overview(records: Iterable[PhotoRecord], folder: Path) -> dict[str, object]:
    photos, cracks = [], []
    severities: tuple[str, ...] = ()
    profile = rules = ""
    for number, record in enumerate(records):
        photos.append(_photo(record, folder))
        cracks += [[number, *_crack(crack)] for crack in record.cracks]
        severities = severities or record.severities
        profile = profile or str(record.row.get("severity_profile") or "")
        rules = rules or record.rules
    return {
        "version": __version__,
        "schema": SCHEMA,
        "severities": severities,
        "profile": profile,
        "rules": rules,
        "bins": {"names": _BINS, "perOctave": _PER_OCTAVE, "first": _FIRST},
        "photoColumns": _PHOTO_COLUMNS,
        "photos": photos,
        "crackColumns": _CRACK_COLUMNS,
        "cracks": cracks,
    }


_PHOTO_COLUMNS = (
    "name",
    "link",
    "width",
    "height",
    "cracks",
    "notes",
    "latitude",
    "longitude",
    "taken",
    "scale",
)
_CRACK_COLUMNS = (
    *("photo", "crack", "id", "type", "unit", "length", "mean", "meanLow", "meanHigh", "max", "maxLow", "maxHigh"),
    *("x", "y", "borneOut", "share", "severity", "possible", "box", "widths"),
)


def _photo(record: PhotoRecord, folder: Path) -> list[object]:
    row = record.row
    photo = str(row["photo"])
    # A browser would show the first picture of a file with several.
    link = "" if record.page else quote(relative(photo, folder), errors="replace")
    scale = ""
    if row.get("mm_per_px") is not None:
        std = float(row["scale_relative_std"] or 0)
        spread = f" ± {std:.1%}" if std else ""
        scale = f"{row['mm_per_px']:.4g} mm/px{spread}, {row['scale_source']}"
    places = [row["latitude_deg"], row["longitude_deg"], row["taken"]]
    size = [row["width_px"], row["height_px"], row["cracks"]]
    name = f"{photo}, page {record.page}" if record.page else photo
    return [name, link, *size, row["notes"], *places, scale]


def _crack(crack: CrackRecord) -> list[object]:
    row = crack.row
    unit = "mm" if row.get("length_mm") is not None else "px"
    widths = Counter(
        _BINS.index(each)
        for line in crack.lines
        for each in _classes(line.width, line.mm_per_px if unit == "mm" else None)
        if each != "."
    )
    keys = ("width_mean", "width_mean_low", "width_mean_high", "width_max", "width_max_low", "width_max_high")
    return [
        *(row[key] for key in ("crack", "id", "type")),
        unit,
        row[f"length_{unit}"],
        *(row[f"{key}_{unit}"] for key in keys),
        *(row[key] for key in ("width_max_x_px", "width_max_y_px", "width_max_borne_out", "measured_share")),
        row.get("severity"),
        row.get("severity_possible"),
        [row[key] for key in ("left_px", "top_px", "right_px", "bottom_px")],
        sorted(widths.items()),
    ]


def _classes(widths: Sequence[float | None], factor: Sequence[float] | None) -> str:
    """Return a letter for the class of each width, a dot where there is none."""
    letters = []
    for position, width in enumerate(widths):
        if not width:
            letters.append(".")
            continue
        value = width * (factor[position] if factor is not None else 1)
        at = math.floor(_PER_OCTAVE * (math.log2(max(value, 1e-9)) - _FIRST))
        letters.append(_BINS[min(max(at, 0), len(_BINS) - 1)])
    return "".join(letters)


def _pictures(record: PhotoRecord, side: int) -> dict[str, object]:
    row = record.row
    mask, cell = mask_preview(Path(str(row["mask"])), side)
    photo = "" if row["photo"] == row["mask"] else photo_preview(Path(str(row["photo"])), side, record.page)
    return {
        "picture": photo,
        "mask": mask if record.cracks or row["area_px2"] else "",
        "cell": cell,
        "lines": [[crack.row["crack"], *_line(line)] for crack in record.cracks for line in crack.lines],
    }


def _line(line: LineRecord) -> tuple[list[int], list[int], str]:
    """Return whole px of the first point and steps from there, and the letters of the widths: 4 bytes a point."""
    xs, ys = [round(x) for x in line.x], [round(y) for y in line.y]
    steps_x = [xs[0], *(after - before for before, after in pairwise(xs))]
    steps_y = [ys[0], *(after - before for before, after in pairwise(ys))]
    return steps_x, steps_y, _classes(line.width, line.mm_per_px)
