"""A contact sheet: every photo of some data sets small, its mask outlined, with what was found, on one HTML page.

The page holds all that it shows and fetches nothing; it is written from what `checking` returned.
"""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from cracktool.datasets.findings import KINDS, Checked, CheckedImage, Finding
from cracktool.files import relative, replace_file
from cracktool.html import page
from cracktool.manifest import SPLITS


def write_sheet(checked: Checked, path: Path) -> None:
    """Write the page: images with findings first, then the others, each with its share of crack.

    Args:
        checked: What `cracktool.datasets.checking.check` returned with thumbnails: 10 kB an image.
        path: The HTML file to write; the photos are linked relative to it.

    Raises:
        OutputError: The file cannot be written.

    Example:
        >>> write_sheet(check([Path("data/crack500")], thumbnails=True), Path("sheet.html"))
    """
    replace_file(path, sheet_html(checked, path.parent).encode("utf-8", "replace"))


def sheet_html(checked: Checked, folder: Path) -> str:
    """Return the page as text; `folder` is where it will lie."""
    found: defaultdict[str, list[Finding]] = defaultdict(list)
    for finding in checked.findings:
        for name in filter(None, (finding.image, finding.other)):
            found[name].append(finding)
    places = {image.name: (f"i{number}", _title(image)) for number, image in enumerate(checked.images)}
    order = sorted(checked.images, key=lambda image: (_rank(found[image.name]), image.name))
    whole = [finding for name, findings in found.items() if name not in places for finding in findings]
    body = (
        _head(checked, whole),
        "\n<main>\n",
        *(_card(image, found[image.name], places, folder) + "\n" for image in order),
        "</main>",
    )
    return "".join(page(f"Contact sheet of {len(order)} photos", body, package=__package__, name="sheet"))


def _title(image: CheckedImage) -> str:
    """Return a name short enough for a card: data set and file."""
    return f"{image.folder.resolve().name}/{image.entry.image.removeprefix('images/')}"


def _rank(findings: Sequence[Finding]) -> tuple[int, ...]:
    kinds = list(KINDS)
    return tuple(sorted(kinds.index(finding.kind) for finding in findings)) or (len(kinds),)


def _head(checked: Checked, whole: Sequence[Finding]) -> str:
    kinds = Counter(finding.kind for finding in checked.findings)
    marked = {name for finding in checked.findings for name in (finding.image, finding.other)}
    clean = sum(image.name not in marked for image in checked.images)
    splits: Counter[str] = Counter(image.entry.split for image in checked.images)
    showing = [("", "all photos"), ("any", f"with findings ({len(checked.images) - clean})")]
    showing += [(kind, f"{kind} ({kinds[kind]})") for kind in KINDS if kinds[kind]]
    showing += [("none", f"without findings ({clean})")]
    parts = [("", "all splits"), *((split, f"{split} ({splits[split]})") for split in SPLITS if splits[split])]
    orders = [("", "findings first"), ("more", "most crack first"), ("less", "least crack first"), ("name", "by name")]
    meanings = "".join(f"<dt>{kind}<dd>{escape(KINDS[kind])}" for kind in KINDS if kinds[kind])
    return (
        f"<header>\n<h1>{len(checked.images)} photos, {len(checked.findings)} findings</h1>\n"
        f"<p>{', '.join(escape(str(folder)) for folder in checked.folders)}</p>\n"
        + "".join(
            f"<p class=warn>{escape(each.image)}: {escape(each.kind)}, {escape(each.detail)}</p>" for each in whole
        )
        + (f"<details><summary>What the findings mean</summary><dl>{meanings}</dl></details>\n" if meanings else "")
        + f"</header>\n<form>{_select('kind', showing)}{_select('split', parts)}{_select('order', orders)}"
        '<input id="name" type="search" placeholder="part of the name" aria-label="part of the name">'
        '<output id="shown"></output></form>'
    )


def _select(name: str, options: Iterable[tuple[str, str]]) -> str:
    inner = "".join(f'<option value="{value}">{escape(text)}</option>' for value, text in options)
    return f'<select id="{name}" aria-label="{name}">{inner}</select>'


def _card(image: CheckedImage, findings: Sequence[Finding], places: Mapping[str, tuple[str, str]], folder: Path) -> str:
    kinds = " ".join(dict.fromkeys(finding.kind for finding in findings))
    crack = "no mask" if image.entry.crack_fraction < 0 else f"{image.entry.crack_fraction:.2%} crack"
    name, (place, title) = escape(image.name, quote=True), places[image.name]
    lines = "".join(_line(finding, image, places) for finding in findings)
    return (
        f'<figure id="{place}" data-kinds="{kinds}" data-split="{image.entry.split}" '
        f'data-crack="{image.entry.crack_fraction:.6f}" data-name="{name}">{_picture(image, folder)}'
        f'<figcaption><b title="{name}">{escape(title)}</b><span>'
        f"{image.entry.split}, {crack}, {image.entry.label}</span>"
        f"{f'<ul>{lines}</ul>' if lines else ''}</figcaption></figure>"
    )


def _picture(image: CheckedImage, folder: Path) -> str:
    if not image.thumbnail:
        return '<div class="none">no picture</div>'
    data = base64.b64encode(image.thumbnail).decode("ascii")
    shown = f'<img decoding="async" alt="{escape(image.name, quote=True)}" src="data:image/jpeg;base64,{data}">'
    link = quote(relative(image.path, folder), errors="replace")
    return f'<a href="{link}">{shown}</a>' if link else shown


def _line(finding: Finding, image: CheckedImage, places: Mapping[str, tuple[str, str]]) -> str:
    other = finding.other if finding.image == image.name else finding.image
    text = f"<b>{escape(finding.kind)}</b> {escape(finding.detail)}"
    if other in places:
        place, title = places[other]
        text += f' <a href="#{place}">{escape(title)}</a>'
    return f'<li class="{finding.kind}">{text}</li>'
