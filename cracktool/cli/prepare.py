"""`crack prepare`: a raw data set in, a prepared one out."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from cracktool.cli.options import Debug, Quiet, refuse_others
from cracktool.cli.screen import finish, print_data, print_table, progress_bar, shown_on, tell, warn
from cracktool.errors import UsageError


def prepare(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="LAYOUT [SOURCE]",
            help="Data set (crack500, ...), form (folder, coco, ...) or synthetic, and the raw folder [raw/LAYOUT]; "
            "--list shows all. With --check any number of prepared sets.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where the prepared set goes [data/LAYOUT].")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Look for copies, leaks and bad masks in sets; -o SHEET.html shows them.")
    ] = False,
    split: Annotated[
        str | None,
        typer.Option(metavar="TRAIN/VAL/TEST", help="Cut such shares, as 0.7/0.15/0.15; none for the published split."),
    ] = None,
    keep_leaks: Annotated[
        bool, typer.Option("--keep-leaks", help="Keep images of train whose photos a published val or test has too.")
    ] = False,
    masks: Annotated[Path | None, typer.Option(help="Folder of the masks, where it is not beside the images.")] = None,
    mask_threshold: Annotated[
        int | None, typer.Option(help="Grey values from here on, 1 to 255, are crack; none for what suits the set.")
    ] = None,
    invert: Annotated[bool, typer.Option("--invert", help="Exchange crack and background of the masks.")] = False,
    label: Annotated[
        list[str] | None,
        typer.Option(help="Label of annotations that is crack; may be repeated. [those with crack in their name]"),
    ] = None,
    line_width: Annotated[float | None, typer.Option(help="Width in px of annotated lines. [1]")] = None,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="How many synthetic pictures.")] = None,
    size: Annotated[str | None, typer.Option(help="Height and width of synthetic pictures, such as 512x768.")] = None,
    background: Annotated[
        Path | None, typer.Option(help="Folder of photos without cracks, to draw synthetic cracks on.")
    ] = None,
    material: Annotated[
        str | None, typer.Option(help="Synthetic asphalt, concrete, plaster, brick or paving. [a mixture]")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Synthetic cracks: none, single, several or network. [a mixture]")
    ] = None,
    scene: Annotated[
        bool, typer.Option("--scene", help="Put sky, trees, openings and beams beside synthetic surfaces.")
    ] = False,
    tile: Annotated[int | None, typer.Option(help="Cut larger images into square tiles of this side in px.")] = None,
    min_crack_px: Annotated[int, typer.Option(help="Leave out images or tiles with fewer crack pixels.")] = 0,
    keep_empty: Annotated[float, typer.Option(help="Share of those, 0 to 1, that is kept nonetheless.")] = 0.0,
    degrade: Annotated[
        bool, typer.Option("--degrade", help="Blur photos and shrink them to a quarter; masks stay sharp.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Decides splits, synthetic pictures, blur and kept tiles.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Threads; none for one per processor.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read everything, write nothing.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Print the data sets and forms, and leave.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Turn a raw data set into images/, masks/ and manifest.csv.

    Reads the public data sets as they are published, folders of images and masks, and annotations of COCO, LabelMe,
    CVAT, VOC and Supervisely. Crack500 photos are cut into 16 tiles, of which those with more than 1000 crack pixels
    are kept. --tile 512 --min-crack-px 100 --keep-empty 0.1 makes tiles to train with. With --degrade the set is one to
    score networks that enlarge by 4, such as csbsr_pspnet: kernels/NAME.npy is what blurred a photo. Synthetic sets
    have lines/NAME.csv for each mask: the centre lines and widths it was made of. Prints the path of the table.

    With --check nothing is prepared: prepared sets are looked through for what they show twice and for masks that do
    not fit, such as crack prepare --check data/crack500 data/canal -o sheet.html. Prints a table of findings; the exit
    code is 1 where there are any.

    Example: crack prepare crack500 raw/crack500 -o data/crack500
    """
    if list_:
        refuse_others(context, ["list_"], "--list prepares nothing")
        _list_layouts()
        return
    if not names:
        remedy = "crack prepare --check data/crack500" if check else "crack prepare --list shows them"
        raise UsageError("no data set named", remedy=remedy)
    if check:
        refuse_others(context, ["names", "out", "check", "jobs"], "--check prepares nothing")
        _check([Path(name) for name in names], out, jobs, quiet)
        return
    if len(names) > 2:
        raise UsageError(
            f"{len(names)} names, expected a layout and its raw folder", remedy="--check takes several sets"
        )
    from cracktool.datasets.prepare import prepare as run
    from cracktool.datasets.raw import PrepareOptions

    options = PrepareOptions(
        split=_parse_split(split),
        keep_leaks=keep_leaks,
        masks=masks,
        mask_threshold=mask_threshold,
        invert=invert,
        label=tuple(label or ()),
        line_width=line_width,
        seed=seed,
        count=count,
        size=_parse_size(size),
        background=background,
        material=material,
        pattern=pattern,
        scene=scene,
        tile=tile,
        min_crack_px=min_crack_px,
        keep_empty=keep_empty,
        degrade=degrade,
    )
    layout, source = names[0], Path(names[1]) if len(names) > 1 else None
    folder = out or Path("data") / layout
    with progress_bar(quiet, desc=layout, unit=" images") as bar:
        result = run(layout, source, folder, options=options, jobs=jobs, dry_run=dry_run, progress=shown_on(bar))
    warn(result.warnings)
    if not quiet:
        counts = {**result.counts, "all": sum(result.counts.values())}
        rows = [(name, str(count), str(result.published.get(name, "-"))) for name, count in counts.items()]
        print_table([("split", "images", "published"), *rows], sys.stderr)
        if result.left_out:
            tell(f"{result.left_out} left out for too little crack")
        tell(f"{counts['all'] / max(result.seconds, 1e-9):.1f} images/s")
    print_data(result.manifest)
    finish(result.failures)


def _list_layouts() -> None:
    from cracktool.datasets import LAYOUTS

    rows = [
        (name, layout.title, _published(layout.published), layout.licence, layout.where_to_get)
        for name, layout in LAYOUTS.items()
    ]
    if not sys.stdout.isatty():
        print_table([("layout", "what", "images", "licence", "where to get"), *rows], sys.stdout)
        return
    for name, title, count, licence, where in rows:  # too wide for a table: addresses must not be cut
        images = f"{count} images; " if count != "-" else ""
        print_data(f"{name:<15}{title}\n{'':<15}{images}licence: {licence}\n{'':<15}{where}")


def _published(counts: Mapping[str, int]) -> str:
    if not counts:
        return "-"
    parts = ", ".join(f"{count} {split}" for split, count in counts.items() if split != "all")
    return f"{sum(counts.values())}" + (f" ({parts})" if parts else "")


def _check(folders: list[Path], sheet: Path | None, jobs: int | None, quiet: bool) -> None:
    from cracktool.datasets.checking import check
    from cracktool.datasets.contact_sheet import write_sheet
    from cracktool.datasets.findings import KINDS

    if sheet and sheet.suffix.lower() not in {".html", ".htm"}:
        raise UsageError("a contact sheet is a page", path=sheet, remedy="name it -o sheet.html")
    with progress_bar(quiet, desc="check", unit=" images") as bar:
        checked = check(folders, thumbnails=sheet is not None, jobs=jobs, progress=shown_on(bar))
    rows = [(each.kind, each.image, each.other, each.detail) for each in checked.findings]
    if rows:
        print_table([("finding", "image", "other", "detail"), *rows], sys.stdout)
    if sheet:
        write_sheet(checked, sheet)
    if not quiet:
        counts = Counter(each.kind for each in checked.findings)
        for kind, meaning in KINDS.items():
            if counts[kind]:
                tell(f"{counts[kind]} {kind}: {meaning}")
        shown = f"; see {sheet}" if sheet else ""
        tell(f"{len(checked.images)} images, {len(rows) or 'no'} findings{shown}")
    if rows:
        raise typer.Exit(1)


def _parse_split(text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        train, val, test = (float(share) for share in text.split("/"))
    except ValueError:
        remedy = "write TRAIN/VAL/TEST, such as 0.7/0.15/0.15"
        raise UsageError(f"the split {text!r} cannot be read", remedy=remedy) from None
    return train, val, test


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise UsageError(f"the size {text!r} cannot be read", remedy="write HEIGHTxWIDTH in px, such as 512x768")
    return int(height), int(width)
