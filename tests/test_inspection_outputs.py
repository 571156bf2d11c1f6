"""Maps, drawings and annotations of an inspection, read back by the programs and readers they are for."""

import json
import sqlite3
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from measured import SHAPE, make_pair, record_of, ring_mask, save_photo
from PIL import Image
from test_inspection import GPS, exif_of

from cracktool.datasets.prepare import prepare
from cracktool.datasets.rasterising import decode_runs, fill_rings
from cracktool.georeference import read_georeference
from cracktool.images import read_mask, write_mask
from cracktool.inspection import InspectionOptions, Pair, inspect_photo, write_collected
from cracktool.inspection.drawings import describe, write_dxf, write_svg
from cracktool.inspection.labelling import write_cvat
from cracktool.inspection.maps import crack_lines, map_layers, write_geojson, write_geopackage
from cracktool.inspection.outlines import find_outlines, run_lengths
from cracktool.inspection.records import make_record, read_record, write_record
from cracktool.measuring import Scale, measure, read_severity


@pytest.fixture
def orthophoto(tmp_path):
    """A georeferenced photo with a pixel of 2 mm, and its mask."""
    rasterio = pytest.importorskip("rasterio")
    pair = make_pair(tmp_path, "ortho", suffix=".tif")
    grey = cv2.imread(str(pair.photo), cv2.IMREAD_GRAYSCALE)
    profile = {"driver": "GTiff", "height": grey.shape[0], "width": grey.shape[1], "count": 3, "dtype": "uint8"}
    transform = rasterio.Affine(0.002, 0, 4e5, 0, -0.002, 5e6)
    with rasterio.open(pair.photo, "w", crs="EPSG:32632", transform=transform, **profile) as file:
        file.write(np.repeat(grey[None], 3, axis=0))
    return pair


def test_cracks_lie_on_the_map(orthophoto, tmp_path):
    record = record_of(orthophoto)
    (crack,) = record.cracks
    assert crack.row["scale_source"] == "geotiff"
    assert crack.row["length_mm"] == pytest.approx(2 * crack.row["length_px"], rel=1e-3)
    (layer,) = map_layers([record])
    write_geojson(tmp_path / "cracks.geojson", layer)
    content = json.loads((tmp_path / "cracks.geojson").read_text())
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32632"
    (feature,) = content["features"]
    assert feature["properties"]["id"] == crack.row["id"]
    (line,) = np.array(feature["geometry"]["coordinates"])
    assert np.hypot(*(line[-1] - line[0])) == pytest.approx(0.24, rel=0.02)
    assert line[0] == pytest.approx(
        [4e5 + 0.002 * (crack.lines[0].x[0] + 0.5), 5e6 - 0.002 * (crack.lines[0].y[0] + 0.5)]
    )


def test_cracks_of_a_network_that_enlarges_lie_where_those_of_the_photo_do(orthophoto, tmp_path):
    (before,) = record_of(orthophoto).cracks
    mask = read_mask(orthophoto.mask)
    write_mask(orthophoto.mask, np.repeat(np.repeat(mask, 4, axis=0), 4, axis=1))
    geo = read_georeference(orthophoto.photo)
    record = record_of(orthophoto)
    (line,), (fine,) = crack_lines(before, geo), crack_lines(record.cracks[0], record.geo)
    assert np.array(fine)[[0, -1]] == pytest.approx(np.array(line)[[0, -1]], abs=0.002)  # a pixel
    assert record.enlarged == 4


def test_a_geopackage_opens_and_holds_the_same(orthophoto, tmp_path):
    record = record_of(orthophoto)
    gps = record_of(make_pair(tmp_path, "gps", suffix=".jpg", exif=exif_of(gps=GPS)))
    layers = map_layers([record, gps])
    assert [layer.name for layer in layers] == ["cracks", "photos"]
    write_geopackage(tmp_path / "x.gpkg", layers)
    database = sqlite3.connect(tmp_path / "x.gpkg")
    assert database.execute("PRAGMA application_id").fetchone() == (0x47504B47,)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    contents = dict(database.execute("SELECT table_name, srs_id FROM gpkg_contents"))
    assert contents == {"cracks": 32632, "photos": 4326}
    blob, length = database.execute("SELECT geom, length_mm FROM cracks").fetchone()
    assert length == record.cracks[0].row["length_mm"]
    assert blob[:4] == b"GP\x00\x01"
    assert int.from_bytes(blob[9:13], "little") == 5  # MultiLineString
    points = np.frombuffer(blob[26:], "<f8").reshape(-1, 2)
    assert points == pytest.approx(np.array(crack_lines(record.cracks[0], record.geo)[0]))
    (point,) = database.execute("SELECT geom FROM photos").fetchone()
    assert np.frombuffer(point[13:], "<f8") == pytest.approx([gps.row["longitude_deg"], gps.row["latitude_deg"]])
    database.close()


def test_two_coordinate_systems_are_two_layers(orthophoto):
    record = record_of(orthophoto)
    from dataclasses import replace

    other = replace(record, geo=replace(record.geo, epsg=25833, wkt="another"))
    layers = map_layers([record, other])
    assert [layer.name for layer in layers] == ["cracks_32632", "cracks_25833"]
    assert [len(list(layer.features())) for layer in layers] == [1, 1]


def test_a_coordinate_system_without_a_number_is_not_taken_for_degrees(orthophoto, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    local = "+proj=tmerc +lat_0=50 +lon_0=9 +x_0=1000 +ellps=bessel +units=m"
    with rasterio.open(orthophoto.photo, "r+") as file:
        file.crs = local
    record = inspect_photo(orthophoto, InspectionOptions()).path
    written, (error,) = write_collected(record.parent, [record], ["geojson", "gpkg"])
    assert "cracks.geojson: GeoJSON names a coordinate system by its EPSG number" in str(error)
    assert "cracks.gpkg" in {path.name for path in written}
    assert not list(record.parent.glob("*.geojson"))


def test_without_places_there_is_no_map(tmp_path):
    record = inspect_photo(make_pair(tmp_path), InspectionOptions()).path
    written, failures = write_collected(record.parent, [record], ["geojson", "gpkg", "dxf"])
    assert ["no map: no photo has a GPS position" in str(each) for each in failures] == [True, True]
    assert written[-1].name == "a.dxf"


def test_dxf_has_a_layer_per_severity_in_mm(tmp_path):
    ezdxf = pytest.importorskip("ezdxf")
    record = record_of(make_pair(tmp_path), mm_per_px=0.04, severity=read_severity("en1992-1-1"))
    write_dxf(tmp_path / "x.dxf", record)
    drawing = ezdxf.readfile(tmp_path / "x.dxf")
    assert drawing.dxfversion == "AC1009"
    assert drawing.audit().errors == []
    (line,) = drawing.modelspace().query("POLYLINE")
    assert line.dxf.layer == "CRACKS_1_UP_TO_0_2_MM"
    assert {"CRACKS_4_ABOVE_0_4_MM", "LABELS"} <= {layer.dxf.name for layer in drawing.layers}
    points = np.array([vertex.dxf.location.xyz[:2] for vertex in line.vertices])
    first = record.cracks[0].lines[0]
    assert points[0] == pytest.approx([0.04 * first.x[0], -0.04 * first.y[0]], abs=1e-3)
    assert len(points) == len(first.x)
    (text,) = drawing.modelspace().query("TEXT")
    assert text.dxf.text == describe(record.cracks[0])


def test_dxf_in_px_and_on_the_map(tmp_path, orthophoto):
    for record, place in (
        (record_of(make_pair(tmp_path)), lambda line: (line.x[0], -line.y[0])),
        (record_of(orthophoto), lambda line: (4e5 + 0.002 * (line.x[0] + 0.5), 5e6 - 0.002 * (line.y[0] + 0.5))),
    ):
        write_dxf(tmp_path / "x.dxf", record)
        lines = (tmp_path / "x.dxf").read_text().splitlines()
        at = lines.index("VERTEX")
        x, y = float(lines[at + 4]), float(lines[at + 6])
        assert (x, y) == pytest.approx(place(record.cracks[0].lines[0]), abs=1e-3)


def test_dxf_in_degrees_and_turned_keeps_its_shape(orthophoto, tmp_path):
    ezdxf = pytest.importorskip("ezdxf")
    from dataclasses import replace

    record = record_of(orthophoto)
    for transform in ((1e-8, 0, 9, 0, -1e-8, 50), (0, 1e-8, 9, 1e-8, 0, 50)):
        geo = replace(record.geo, transform=transform, epsg=4326, unit_mm=None)
        write_dxf(tmp_path / "x.dxf", replace(record, geo=geo))
        space = ezdxf.readfile(tmp_path / "x.dxf").modelspace()
        (line,) = space.query("POLYLINE")
        points = np.array([vertex.dxf.location.xyz[:2] for vertex in line.vertices])
        assert points == pytest.approx(np.array(crack_lines(record.cracks[0], geo)[0]), abs=1e-10)
        (text,) = space.query("TEXT")
        assert text.dxf.height == pytest.approx(12e-8, rel=1e-3)


def test_cracks_beyond_the_horizon_have_no_mm(tmp_path):
    mask = np.zeros(SHAPE, bool)
    mask[50:53, 20:180] = mask[150:153, 20:180] = True
    scale = Scale(matrix=np.array([[1, 0, 0], [0, 1, 0], [0, 0.01, -1]]), source="aruco")  # the horizon is row 100
    found = measure(None, mask, scale=scale)
    record = make_record(found, photo="a.jpg", mask="a.png", place="a", made_from={})
    write_record(tmp_path / "a.cracks.json", record)
    far, near = read_record(tmp_path / "a.cracks.json").cracks
    assert (far.row["length_mm"], far.row["mm_per_px"], far.lines[0].mm_per_px) == (None, None, None)
    assert near.row["length_mm"] > 0
    assert record.row["length_mm"] == pytest.approx(near.row["length_mm"], abs=1e-3)
    assert (record.row["area_mm2"], record.row["density_m_per_m2"]) == (None, None)
    write_dxf(tmp_path / "a.dxf", record)
    assert (tmp_path / "a.dxf").read_text().count("POLYLINE") == 1
    assert describe(far).endswith("px long, width not measurable")


def test_svg_lies_over_its_photo(tmp_path):
    pair = make_pair(tmp_path, 'a "b" <&')
    record = record_of(pair)
    write_svg(tmp_path / "found" / "x.svg", record)
    root = ElementTree.parse(tmp_path / "found" / "x.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    assert root.attrib["viewBox"] == "-0.5 -0.5 200 160"
    assert root.find(f"{space}image").attrib["href"] == "../photos/a%20%22b%22%20%3C%26.png"
    (way,) = root.findall(f".//{space}path")
    assert way.attrib["d"].startswith(f"M{record.cracks[0].lines[0].x[0]:.1f},")
    assert float(way.attrib["stroke-width"]) == pytest.approx(4, abs=0.2)
    assert "diagonal" in way.find(f"{space}title").text or "transverse" in way.find(f"{space}title").text


@pytest.mark.parametrize("kind", ["svg", "cvat"])
def test_names_that_xml_cannot_hold_do_not_spoil_the_file(tmp_path, kind):
    record = record_of(make_pair(tmp_path, "a\x01b"))
    path = tmp_path / "found" / "x"
    write_svg(path, record) if kind == "svg" else write_cvat(path, [record])
    ElementTree.parse(path)
    assert b"a?b.png" in path.read_bytes()


def scribbled(seed):
    rng = np.random.default_rng(seed)
    canvas = np.zeros((80, 90), np.uint8)
    for _ in range(8):
        points = rng.uniform(-5, 95, (3, 2)).astype(np.int32)
        cv2.polylines(canvas, [points], False, 1, int(rng.integers(1, 5)))
    canvas[rng.random(canvas.shape) < 0.02] = 1
    return canvas > 0


@pytest.mark.parametrize("seed", range(6))
def test_outlines_give_back_the_very_mask(seed):
    mask = scribbled(seed)
    back = np.zeros_like(mask)
    whole = 0
    for outline in find_outlines(mask, {}):
        place = (slice(outline.top, outline.top + outline.crop.shape[0]), slice(outline.left, None))
        if outline.whole:
            whole += 1
            fill_rings(back, [outline.ring])
        else:
            back[place][:, : outline.crop.shape[1]] |= outline.crop
    assert whole > 5
    assert np.array_equal(back, mask)


def test_run_lengths_are_those_of_the_reader():
    mask = scribbled(0)
    for by_columns in (True, False):
        assert np.array_equal(
            decode_runs(run_lengths(mask, by_columns=by_columns), mask.shape, by_columns=by_columns), mask
        )
    assert run_lengths(np.ones((2, 2), bool), by_columns=False) == [0, 4]
    assert run_lengths(np.zeros((2, 2), bool), by_columns=False) == [4]


@pytest.mark.parametrize("kind", ["labelme", "coco", "cvat"])
def test_annotations_are_read_back_as_the_very_masks(tmp_path, kind):
    raw = tmp_path / "raw"
    masks = {"bar": None, "ring": ring_mask()}
    records = []
    for name in masks:
        pair = make_pair(tmp_path, name)
        if masks[name] is None:
            masks[name] = read_mask(pair.mask)
        else:
            save_photo(pair.photo, np.full(masks[name].shape, 140, np.uint8))
            write_mask(pair.mask, masks[name])
        photo = raw / pair.photo.name
        raw.mkdir(exist_ok=True)
        pair.photo.rename(photo)
        records.append(inspect_photo(Pair(pair.mask, photo, raw / name, name), InspectionOptions()).path)
    written, failures = write_collected(raw, records, [kind])
    assert failures == []
    assert any(kind in path.name for path in written)
    prepare(kind, raw, tmp_path / "data")
    for name, mask in masks.items():
        (found,) = (tmp_path / "data" / "masks").rglob(f"*{name}*")
        assert np.array_equal(read_mask(found), mask), name


@pytest.mark.parametrize("kind", ["labelme", "coco", "cvat"])
def test_annotations_of_a_network_that_enlarges_fit_its_photo(tmp_path, kind):
    raw = tmp_path / "raw"
    mask = np.repeat(np.repeat(ring_mask(), 4, axis=0), 4, axis=1)
    mask[380:392, 100:300] = True  # a part without hole, as high as three pixels of the photo
    pair = make_pair(tmp_path)
    save_photo(raw / "a.png", np.full(ring_mask().shape, 140, np.uint8))
    write_mask(pair.mask, mask)
    record = inspect_photo(Pair(pair.mask, raw / "a.png", raw / "a", "a"), InspectionOptions()).path
    assert write_collected(raw, [record], [kind])[1] == []
    prepare(kind, raw, tmp_path / "data")
    (found,) = (tmp_path / "data" / "masks").rglob("*a*.png")
    assert np.array_equal(read_mask(found), mask[2::4, 2::4])


@pytest.mark.parametrize("kind", ["labelme", "coco", "cvat"])
def test_annotations_of_a_later_page_are_not_given_to_the_first(tmp_path, kind):
    records = two_pages(tmp_path)
    written, (failure,) = write_collected(tmp_path / "found", records, [kind])
    assert f"{kind} cannot name a page of a file, so 1" in str(failure)
    names = {path.name for path in written}
    assert not any("page1" in name for name in names)
    (file,) = (path for path in written if kind in path.name)
    assert file.read_text().count("two.tif") == 1


def test_svg_of_a_later_page_does_not_link_the_first(tmp_path):
    records = two_pages(tmp_path)
    write_collected(tmp_path / "found", records, ["svg"])
    first, later = ((tmp_path / "found" / f"two.page{page}.cracks.svg").read_text() for page in (0, 1))
    assert "<image" in first
    assert "<image" not in later
    assert "two.tif, page 1" in later


def two_pages(folder):
    """Measure a file of two photos; return the files of their records."""
    pair = make_pair(folder, "two", suffix=".tif")
    photo = Image.open(pair.photo)
    photo.save(pair.photo, save_all=True, append_images=[photo.copy()])
    places = [pair.place.with_name(f"two.page{page}") for page in (0, 1)]
    pairs = [Pair(pair.mask, pair.photo, place, place.name, page) for page, place in enumerate(places)]
    return [inspect_photo(each, InspectionOptions()).path for each in pairs]


def test_parts_know_their_crack(tmp_path):
    pair = make_pair(tmp_path)
    mask = read_mask(pair.mask)
    mask[2, 2:4] = True
    write_mask(pair.mask, mask)
    record = record_of(pair)
    assert [outline.crack for outline in find_outlines(mask, {1: record.cracks[0]})] == [0, 1]
    assert Path(str(record.row["mask"])) == pair.mask
