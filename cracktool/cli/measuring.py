"""The measuring half of `crack infer`: its options, and what happens to masks once they are there."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cracktool.cli.screen import print_data, tell, warn
from cracktool.errors import CrackError

if TYPE_CHECKING:
    from cracktool.inference import Result
    from cracktool.inspection import Inspected, InspectionOptions
    from cracktool.inspection.schema import Row

Measure = Annotated[bool, typer.Option("--measure", help="Measure the cracks: tables of lengths and widths.")]
Masks = Annotated[
    Path | None, typer.Option(help="Measure the masks of this folder; no network runs. Without INPUT: masks alone.")
]
MmPerPx = Annotated[float | None, typer.Option(help="Scale of all photos, for results in mm.")]
ScaleFrom = Annotated[
    list[str] | None, typer.Option(help="Scale of each photo: aruco:20 (side in mm), exif, geotiff; may be repeated.")
]
Distance = Annotated[str | None, typer.Option(help="From lens to surface, such as 1.5m: scale by the focal length.")]
Severity = Annotated[str | None, typer.Option(help="Classes of widths: a profile's name, or a TOML file.")]
Format = Annotated[
    list[str] | None,
    typer.Option(
        "--format", "-f", help="Write these too: points, geojson, gpkg, dxf, svg, coco, labelme, cvat; may be repeated."
    ),
]
Report = Annotated[bool, typer.Option("--report", help="Write report.html: table, photos, widths, map on one page.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="bridge, min_length, spacing (px), reference (degrees), scale_std: KEY=VALUE."),
]

_OF_VIDEOS = "a video is not measured with the photos; crack infer --masks STEM.frames measures its frames"


@dataclass
class Measuring:
    """What is to be measured and written, and what came of it so far.

    Args:
        options: How.
        out: Folder of the results.
        formats: What is written besides the tables.
        overwrite: Whether anything there may be replaced.
        whole: Whether all photos are measured by this run; tables of a part would replace those of another.
        records: Files of the photos measured so far.
        notes: Remarks, and the photos that they are of.
        failures: What could not be read, measured or written.
    """

    options: InspectionOptions
    out: Path
    formats: tuple[str, ...]
    overwrite: bool
    whole: bool
    records: list[Path] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    failures: list[CrackError] = field(default_factory=list)

    def of_results(self, results: Iterable[Result]) -> Iterator[tuple[Result, Inspected | CrackError | None]]:
        """Give the results of an inference, each with what measuring its mask came to."""
        from cracktool.inference import Done, Skipped
        from cracktool.inspection import Pair, inspect_photos, pair_of

        def pair(result: Result) -> Pair | None:
            if not isinstance(result, Done | Skipped):
                return None
            if result.outputs[0].is_dir():
                self.notes[_OF_VIDEOS].append(str(result.path))
                return None
            return pair_of(result, self.out)

        return inspect_photos(results, pair, self.options, overwrite=self.overwrite)

    def of_masks(self, names: list[str], masks: Path) -> Iterator[Inspected | CrackError | None]:
        """Give what measuring each mask of a folder came to."""
        from cracktool.inspection import find_pairs, inspect_photos

        pairs = find_pairs(names, masks, self.out)
        done = inspect_photos(pairs, lambda each: each, self.options, overwrite=self.overwrite, workers=2)
        return (each for _, each in done)

    def keep(self, done: Inspected | CrackError | None) -> Row | None:
        """Keep what came of a photo for the end, and return its row of the table if it was measured."""
        if isinstance(done, CrackError):
            self.failures.append(done)
        if done is None or isinstance(done, CrackError):
            return None
        self.records.append(done.path)
        if done.row["notes"]:
            self.notes[str(done.row["notes"])].append(str(done.row["photo"]))
        return done.row

    def finish(self, *, as_json: bool, quiet: bool) -> list[CrackError]:
        """Write the tables and all else, print the paths, say what an inspector should know; return all that failed."""
        from cracktool.inspection import write_collected

        if self.records and self.whole:
            written, failures = write_collected(
                self.out, self.records, self.formats, overwrite=self.overwrite, failed=self.failures
            )
            names = [str(path) for path in written]
            for line in [json.dumps({"status": "collected", "outputs": names})] if as_json else names:
                print_data(line)
            self.failures += failures
        elif self.records and not quiet:
            tell("next: the same command without --shard, once all parts are done, makes the tables")
        for note, photos in self.notes.items():
            more = f" and {len(photos) - 3} more" if len(photos) > 3 else ""
            warn([f"{', '.join(photos[:3])}{more}: {note}"])
        return self.failures


def measuring(
    *,
    measure: bool,
    masks: Path | None,
    mm_per_px: float | None,
    scale_from: list[str] | None,
    distance: str | None,
    severity: str | None,
    formats: list[str] | None,
    report: bool,
    settings: list[str] | None,
    out: str,
    overwrite: bool,
    whole: bool,
) -> Measuring | None:
    """Return what the options ask for; any of them asks for measuring."""
    asked = (measure, masks, scale_from, severity, formats, report, settings)
    if not any(asked) and mm_per_px is None and distance is None:
        return None
    from cracktool.inspection import InspectionOptions, check_formats, parse_length, parse_settings
    from cracktool.measuring import read_severity

    options = InspectionOptions(
        mm_per_px=mm_per_px,
        scale_from=tuple(scale_from or ()),
        distance=None if distance is None else parse_length(distance),
        severity=None if severity is None else read_severity(severity),
        **parse_settings(tuple(settings or ())),
    )
    wanted = [*(formats or ()), *(["report"] if report else [])]
    return Measuring(options, Path(out), check_formats(wanted), overwrite, whole)
