"""`crack prepare`: a raw data set in, a prepared one out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cracktool.cli.options import Debug, Quiet
from cracktool.cli.screen import finish, print_data, print_table, progress_bar, tell, warn
from cracktool.errors import UsageError


def prepare(
    layout: Annotated[str, typer.Argument(help="crack500, deepcrack, cfd, folder or synthetic.")],
    source: Annotated[Path | None, typer.Argument(help="Raw folder [raw/LAYOUT].")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where the prepared set goes [data/LAYOUT].")] = None,
    val: Annotated[
        float | None, typer.Option(help="Share of the images for validation, where none is published.")
    ] = None,
    test: Annotated[
        float | None, typer.Option(help="Share of the images for testing, where none is published.")
    ] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of the masks, where it is not beside the images.")] = None,
    mask_threshold: Annotated[int, typer.Option(help="Grey values from here on, 1 to 255, are crack.")] = 128,
    inverted: Annotated[bool, typer.Option("--inverted", help="The crack is dark in the masks.")] = False,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="How many synthetic pictures.")] = None,
    size: Annotated[str | None, typer.Option(help="Height and width of synthetic pictures, such as 512x768.")] = None,
    degrade: Annotated[
        bool, typer.Option("--degrade", help="Blur photos and shrink them to a quarter; masks stay sharp.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Decides splits, synthetic pictures and blur.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Threads; none for one per processor.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read everything, write nothing.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Turn a raw data set into images/, masks/ and manifest.csv.

    Crack500 photos are cut into 16 tiles, of which those with more than 1000 crack pixels are kept. With --degrade the
    set is one to score networks that enlarge by 4, such as csbsr_pspnet: kernels/NAME.npy is what blurred a photo.
    Prints the path of the table.

    Example: crack prepare crack500 raw/crack500 -o data/crack500
    """
    from cracktool.datasets.prepare import prepare as run
    from cracktool.datasets.raw import PrepareOptions

    options = PrepareOptions(
        val=val,
        test=test,
        masks=masks,
        mask_threshold=mask_threshold,
        inverted=inverted,
        seed=seed,
        count=count,
        size=_parse_size(size),
        degrade=degrade,
    )
    folder = out or Path("data") / layout
    with progress_bar(quiet, desc=layout, unit=" images") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        result = run(layout, source, folder, options=options, jobs=jobs, dry_run=dry_run, progress=show)
    warn(result.warnings)
    if not quiet:
        counts = {**result.counts, "all": sum(result.counts.values())}
        rows = [(name, str(count), str(result.published.get(name, "-"))) for name, count in counts.items()]
        print_table([("split", "images", "published"), *rows], sys.stderr)
        tell(f"{counts['all'] / max(result.seconds, 1e-9):.1f} images/s")
    print_data(result.manifest)
    finish(result.failures)


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise UsageError(f"the size {text!r} cannot be read", remedy="write HEIGHTxWIDTH in px, such as 512x768")
    return int(height), int(width)
