"""Everything that is written of a whole inspection from its records: tables always, the other formats on demand.

What is in the files is said in the modules that write them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from cracktool.errors import CrackError, InputError, check_name
from cracktool.georeference import has_rasterio
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
        failed: Why some photos have no record.
        failures: What could not be written; the other files are, all the same.
    """

    out: Path
    paths: Sequence[Path]
    ledger: Ledger
    failed: Sequence[CrackError] = ()
    failures: list[CrackError] = field(default_factory=list)

    def __iter__(self) -> Iterator[PhotoRecord]:
        return map(read_record, self.paths)

    @property
    def scaled(self) -> bool:
        """Whether there are mm."""
        return any(record.scaled for record in self)

    def write(self, name: str, write: Callable[[Path], None]) -> None:
        """Write a file of the whole inspection, where its name is free."""
        self._write(self.out / name, write)

    def write_beside(self, ending: str, write: Callable[[Path, PhotoRecord], None]) -> None:
        """Write a file for each record, where its name is free."""
        for path, record in zip(self.paths, self, strict=True):
            target = path.with_name(path.name.removesuffix(RECORD_ENDING) + ending)
            self._write(target, write, record)

    def _write(self, path: Path, write: Callable[..., None], *given: PhotoRecord) -> None:
        try:
            write(self.ledger.claim(path), *given)
        except CrackError as error:
            self.failures.append(error)


def _write_tables(inspection: Inspection) -> None:
    scaled = inspection.scaled
    inspection.write("cracks.csv", partial(tables.write_cracks_csv, records=inspection, scaled=scaled))
    inspection.write("photos.csv", partial(tables.write_photos_csv, records=inspection, scaled=scaled))
    inspection.write("cracks.jsonl", partial(tables.write_cracks_jsonl, records=inspection))
    inspection.write("photos.jsonl", partial(tables.write_photos_jsonl, records=inspection))


def _write_points(inspection: Inspection) -> None:
    inspection.write("points.csv", partial(tables.write_points_csv, records=inspection, scaled=inspection.scaled))


def _layers(inspection: Inspection) -> list[maps.Layer]:
    layers = maps.map_layers(inspection)
    if not layers:
        reason = "no map: no photo has a GPS position, and none is a GeoTIFF that can be read here"
        remedy = "" if has_rasterio() else "GeoTIFFs need rasterio: pip install 'cracktool[geo]'"
        raise InputError(reason, path=inspection.out, remedy=remedy)
    return layers


def _write_geojson(inspection: Inspection) -> None:
    for layer in _layers(inspection):
        inspection.write(f"{layer.name}.geojson", partial(maps.write_geojson, layer=layer))


def _write_geopackage(inspection: Inspection) -> None:
    inspection.write("cracks.gpkg", partial(maps.write_geopackage, layers=_layers(inspection)))


def _write_dxf(inspection: Inspection) -> None:
    inspection.write_beside(".dxf", drawings.write_dxf)


def _write_svg(inspection: Inspection) -> None:
    inspection.write_beside(".cracks.svg", drawings.write_svg)


def _first_pages(inspection: Inspection, kind: str) -> Inspection:
    """Return what annotations can name: they know a photo by its file, and that is its first page to every reader."""
    first = [path for path, record in zip(inspection.paths, inspection, strict=True) if not record.page]
    if len(first) < len(inspection.paths):
        count = len(inspection.paths) - len(first)
        reason = f"{kind} cannot name a page of a file, so {count} behind the first pages are left out"
        inspection.failures.append(InputError(reason, path=inspection.out, remedy="save each page as a file"))
    return replace(inspection, paths=first)


def _write_labelme(inspection: Inspection) -> None:
    _first_pages(inspection, "labelme").write_beside(".labelme.json", labelling.write_labelme)


def _write_coco(inspection: Inspection) -> None:
    first = _first_pages(inspection, "coco")
    inspection.write("cracks.coco.json", partial(labelling.write_coco, records=first))


def _write_cvat(inspection: Inspection) -> None:
    first = _first_pages(inspection, "cvat")
    inspection.write("cracks.cvat.xml", partial(labelling.write_cvat, records=first))


def _write_report(inspection: Inspection) -> None:
    failed = [str(error) for error in inspection.failed]
    inspection.write("report.html", partial(report.write_report, records=inspection, failed=failed))


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
        check_name("format", name, FORMATS)
    return found


def write_collected(
    out: Path,
    paths: Sequence[Path],
    formats: Iterable[str] = (),
    *,
    overwrite: bool = False,
    failed: Sequence[CrackError] = (),
) -> tuple[tuple[Path, ...], list[CrackError]]:
    """Write the tables of an inspection and what else is asked for.

    Args:
        out: Folder of the results.
        paths: Files of the records, in the order of the inputs.
        formats: Names of `FORMATS`.
        overwrite: Replace files that are not this tool's work, or were changed since.
        failed: Why some photos have no record; the page says so.

    Returns:
        The files, and what could not be written.
    """
    inspection = Inspection(out, paths, Ledger(out, overwrite=overwrite), failed)
    for write in (_write_tables, *(FORMATS[name] for name in formats)):
        try:
            write(inspection)
        except CrackError as error:  # there is nothing to write
            inspection.failures.append(error)
    return inspection.ledger.settle(), inspection.failures
