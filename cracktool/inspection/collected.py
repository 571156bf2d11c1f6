"""Everything that is written of a whole inspection from its records: tables always, the other formats on demand.

What is in the files is said in the modules that write them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cracktool.errors import CrackError, InputError, UsageError, did_you_mean
from cracktool.inspection import drawings, labelling, maps, report, tables
from cracktool.inspection.ledger import Ledger
from cracktool.inspection.records import PhotoRecord, read_record
from cracktool.inspection.run import RECORD_ENDING


@dataclass(frozen=True)
class Inspection:
    """The records of a run, read again each time they are asked for: memory is that of one.

    Args:
        out: Folder of the results.
        paths: Files of the records, in the order of the inputs.
        ledger: Says which files may be written.
    """

    out: Path
    paths: Sequence[Path]
    ledger: Ledger

    def __iter__(self) -> Iterator[PhotoRecord]:
        return map(read_record, self.paths)

    def file(self, name: str) -> Path:
        """Return the path of a file of the whole inspection, free to be written."""
        return self.ledger.claim(self.out / name)

    def beside(self, ending: str) -> Iterator[tuple[Path, PhotoRecord]]:
        """Give each record with the path of a file of its own, free to be written."""
        for path, record in zip(self.paths, self, strict=True):
            yield self.ledger.claim(path.with_name(path.name.removesuffix(RECORD_ENDING) + ending)), record


def _write_tables(inspection: Inspection) -> None:
    scaled = any(record.scaled for record in inspection)
    tables.write_cracks_csv(inspection.file("cracks.csv"), inspection, scaled=scaled)
    tables.write_photos_csv(inspection.file("photos.csv"), inspection, scaled=scaled)
    tables.write_cracks_jsonl(inspection.file("cracks.jsonl"), inspection)
    tables.write_photos_jsonl(inspection.file("photos.jsonl"), inspection)


def _write_points(inspection: Inspection) -> None:
    scaled = any(record.scaled for record in inspection)
    tables.write_points_csv(inspection.file("points.csv"), inspection, scaled=scaled)


def _layers(inspection: Inspection) -> list[maps.Layer]:
    layers = maps.map_layers(inspection)
    if not layers:
        reason = "no map: no photo has a GPS position, and none is a GeoTIFF that can be read here"
        raise InputError(reason, path=inspection.out, remedy="GeoTIFFs need rasterio: pip install rasterio")
    return layers


def _write_geojson(inspection: Inspection) -> None:
    for layer in _layers(inspection):
        maps.write_geojson(inspection.file(f"{layer.name}.geojson"), layer)


def _write_geopackage(inspection: Inspection) -> None:
    maps.write_geopackage(inspection.file("cracks.gpkg"), _layers(inspection))


def _write_dxf(inspection: Inspection) -> None:
    for path, record in inspection.beside(".dxf"):
        drawings.write_dxf(path, record)


def _write_svg(inspection: Inspection) -> None:
    for path, record in inspection.beside(".cracks.svg"):
        drawings.write_svg(path, record)


def _write_labelme(inspection: Inspection) -> None:
    for path, record in inspection.beside(".labelme.json"):
        labelling.write_labelme(path, record)


def _write_coco(inspection: Inspection) -> None:
    labelling.write_coco(inspection.file("cracks.coco.json"), inspection)


def _write_cvat(inspection: Inspection) -> None:
    labelling.write_cvat(inspection.file("cracks.cvat.xml"), inspection)


def _write_report(inspection: Inspection) -> None:
    report.write_report(inspection.file("report.html"), inspection)


FORMATS: Mapping[str, Callable[[Inspection], None]] = {
    "points": _write_points,
    "geojson": _write_geojson,
    "gpkg": _write_geopackage,
    "dxf": _write_dxf,
    "svg": _write_svg,
    "coco": _write_coco,
    "labelme": _write_labelme,
    "cvat": _write_cvat,
    "report": _write_report,
}
"""What may be asked for besides the tables: name -> writes it."""


def check_formats(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of formats, each once; several may be joined by commas.

    Raises:
        UsageError: There is no such format.

    Example:
        >>> check_formats(["points,points"])
        ('points',)
    """
    found = tuple(dict.fromkeys(each.strip() for name in names for each in name.split(",") if each.strip()))
    for name in found:
        if name not in FORMATS:
            remedy = did_you_mean(name, FORMATS) or f"known are {', '.join(FORMATS)}"
            raise UsageError(f"there is no format {name!r}", remedy=remedy)
    return found


def write_collected(
    out: Path, paths: Sequence[Path], formats: Iterable[str] = (), *, overwrite: bool = False
) -> tuple[tuple[Path, ...], list[CrackError]]:
    """Write the tables of an inspection and what else is asked for.

    Args:
        out: Folder of the results.
        paths: Files of the records, in the order of the inputs.
        formats: Names of `FORMATS`.
        overwrite: Replace files that are not this tool's work, or were changed since.

    Returns:
        The files, and what could not be written.
    """
    inspection = Inspection(out, paths, Ledger(out, overwrite=overwrite))
    failures: list[CrackError] = []
    for write in (_write_tables, *(FORMATS[name] for name in formats)):
        try:
            write(inspection)
        except CrackError as error:
            failures.append(error)
    return inspection.ledger.settle(), failures
