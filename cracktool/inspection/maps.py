"""Cracks on maps: GeoJSON and GeoPackage, in the coordinate system of the photos, and positions of photos from GPS.

A crack is drawn where its photo is a georeferenced picture; a photo with a GPS position only is a point.
"""

from __future__ import annotations

import json
import sqlite3
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cracktool.errors import OutputError
from cracktool.files import open_atomic
from cracktool.georeference import GeoReference
from cracktool.inspection.records import CrackRecord, PhotoRecord
from cracktool.inspection.schema import CRACKS, PHOTOS, Column, Row

Line = list[tuple[float, float]]

WGS84 = GeoReference(
    transform=(1, 0, 0, 0, 1, 0),
    epsg=4326,
    wkt='GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433],AUTHORITY["EPSG","4326"]]',
    unit_mm=None,
)
_APPLICATION_ID = 0x47504B47  # "GPKG"
_VERSION = 10300
_TABLES = """
CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, srs_id INTEGER PRIMARY KEY, organization TEXT NOT NULL,
  organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
CREATE TABLE gpkg_contents (table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE,
  description TEXT DEFAULT '', last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
  min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER,
  CONSTRAINT fk_gc_r_srs_id FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id));
CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL, column_name TEXT NOT NULL,
  geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL, z TINYINT NOT NULL, m TINYINT NOT NULL,
  CONSTRAINT pk_geom_cols PRIMARY KEY (table_name, column_name),
  CONSTRAINT fk_gc_tn FOREIGN KEY (table_name) REFERENCES gpkg_contents(table_name),
  CONSTRAINT fk_gc_srs FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys (srs_id));
"""


@dataclass(frozen=True)
class Layer:
    """Features of one kind in one coordinate system; the rows are read anew each time.

    Args:
        name: Of the layer.
        geo: Its coordinate system.
        table: Columns of its rows.
        records: The photos that are in it.
        points: Whether its features are positions of photos, not cracks.
    """

    name: str
    geo: GeoReference
    table: tuple[Column, ...]
    records: Iterable[PhotoRecord]
    points: bool = False

    def features(self) -> Iterator[tuple[list[Line], Row]]:
        """Give the lines and the row of each feature; a position is a line of one point."""
        for record in self.records:
            if self.points:
                latitude, longitude = record.row["latitude_deg"], record.row["longitude_deg"]
                if isinstance(latitude, float) and isinstance(longitude, float):
                    yield [[(longitude, latitude)]], record.row
            elif record.geo is not None and record.geo.wkt == self.geo.wkt:
                for crack in record.cracks:
                    yield crack_lines(crack, record.geo), crack.row


def crack_lines(crack: CrackRecord, geo: GeoReference) -> list[Line]:
    """Return the branches of a crack in map coordinates."""
    return [[geo.place(x, y) for x, y in zip(line.x, line.y, strict=True)] for line in crack.lines]


def map_layers(records: Iterable[PhotoRecord]) -> list[Layer]:
    """Return the layers of an inspection: cracks of each coordinate system, then positions of photos; may be none.

    Args:
        records: The photos; gone through several times.
    """
    systems: dict[str, GeoReference] = {}
    positions = False
    for record in records:
        positions |= record.row["latitude_deg"] is not None
        if record.geo is not None:
            systems.setdefault(record.geo.wkt, record.geo)
    count: defaultdict[str, int] = defaultdict(int)
    layers = []
    for geo in systems.values():
        name = "cracks" if len(systems) == 1 else f"cracks_{geo.epsg or 'local'}"
        count[name] += 1
        layers.append(Layer(name + (f"_{count[name]}" if count[name] > 1 else ""), geo, CRACKS, records))
    return layers + ([Layer("photos", WGS84, PHOTOS, records, points=True)] if positions else [])


def write_geojson(path: Path, layer: Layer) -> None:
    """Write a layer as GeoJSON: MultiLineStrings of cracks, or Points of photos.

    WGS 84 follows RFC 7946; another coordinate system is named in a `crs` member as the format had it before (2008),
    which QGIS and GDAL read. One without a number cannot be named, and a file without a name is read as WGS 84.

    Raises:
        OutputError: It cannot be written, or its coordinate system has no number.
    """
    if layer.geo.epsg is None:
        reason = "GeoJSON names a coordinate system by its EPSG number, and that of these photos has none"
        raise OutputError(reason, path=path, remedy="-f gpkg keeps any")
    system = "" if layer.geo.epsg == 4326 else f"urn:ogc:def:crs:EPSG::{layer.geo.epsg}"
    with open_atomic(path) as file:
        head = {"type": "FeatureCollection", "name": layer.name}
        named = {"crs": {"type": "name", "properties": {"name": system}}} if system else {}
        file.write(json.dumps(head | named)[:-1].encode() + b', "features": [')
        for number, (lines, row) in enumerate(layer.features()):
            shape = (
                {"type": "Point", "coordinates": lines[0][0]}
                if layer.points
                else {"type": "MultiLineString", "coordinates": lines}
            )
            feature = {"type": "Feature", "properties": row, "geometry": shape}
            text = json.dumps(feature, ensure_ascii=False, separators=(",", ":"))
            file.write((b",\n" if number else b"\n") + text.encode("utf-8", "replace"))
        file.write(b"\n]}\n")


def write_geopackage(path: Path, layers: Sequence[Layer]) -> None:
    """Write layers into one GeoPackage (OGC 12-128r17), a table each.

    Raises:
        OutputError: It cannot be written.
    """
    # SQLite writes into files of its own making; the whole is small, so it is made in memory and put down in one step.
    database = sqlite3.connect(":memory:")
    try:
        database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {_VERSION}")
        database.executescript(_TABLES)
        systems = [
            ("Undefined Cartesian", -1, "NONE", -1, "undefined"),
            ("Undefined geographic", 0, "NONE", 0, "undefined"),
        ]
        database.executemany(
            "INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, '')",
            [*systems, ("WGS 84", 4326, "EPSG", 4326, WGS84.wkt)],
        )
        for number, layer in enumerate(layers):
            _write_layer(database, layer, layer.geo.epsg or 100_000 + number)
        database.commit()
        content = database.serialize()
    except sqlite3.Error as error:
        raise OutputError(f"cannot be written: {error}", path=path) from error
    finally:
        database.close()
    with open_atomic(path) as file:
        file.write(content)


def _write_layer(database: sqlite3.Connection, layer: Layer, system: int) -> None:
    geo = layer.geo
    owner = "EPSG" if geo.epsg else "NONE"
    database.execute(
        "INSERT OR IGNORE INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, '')",
        (f"{owner} {system}", system, owner, system, geo.wkt),
    )
    names = [column.name for column in layer.table]
    kind = "POINT" if layer.points else "MULTILINESTRING"
    fields = "".join(f', "{column.name}" {column.kind}' for column in layer.table)
    database.execute(f'CREATE TABLE "{layer.name}" (fid INTEGER PRIMARY KEY AUTOINCREMENT, geom {kind}{fields})')
    boxes = []
    values = ", ".join("?" * (len(names) + 1))
    columns_sql = "".join(f', "{name}"' for name in names)
    for lines, row in layer.features():
        xs, ys = zip(*(point for line in lines for point in line), strict=True)
        boxes.append((min(xs), min(ys), max(xs), max(ys)))
        database.execute(
            f'INSERT INTO "{layer.name}" (geom{columns_sql}) VALUES ({values})',
            (_blob(lines, system, points=layer.points), *(_value(row.get(name)) for name in names)),
        )
    left, bottom, right, top = zip(*boxes, strict=True) if boxes else ((None,),) * 4
    box = (min(left), min(bottom), max(right), max(top)) if boxes else (None,) * 4
    database.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, min_x, min_y, max_x, max_y, srs_id) "
        "VALUES (?, 'features', ?, ?, ?, ?, ?, ?)",
        (layer.name, layer.name, *box, system),
    )
    database.execute("INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', ?, ?, 0, 0)", (layer.name, kind, system))


def _value(value: object) -> object:
    """Return a value as SQLite takes it: names of files that are no UTF-8 lose the bytes that are none."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _blob(lines: list[Line], system: int, *, points: bool) -> bytes:
    """Return a geometry as GeoPackage has it: a header, then well-known binary, all little-endian."""
    header = b"GP" + struct.pack("<BBi", 0, 1, system)
    if points:
        return header + struct.pack("<BI2d", 1, 1, *lines[0][0])
    parts = [header, struct.pack("<BII", 1, 5, len(lines))]
    for line in lines:
        flat = [value for point in line for value in point]
        parts.append(struct.pack(f"<BII{len(flat)}d", 1, 2, len(line), *flat))
    return b"".join(parts)
