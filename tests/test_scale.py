"""Scale: given, from markers seen at a slant, from EXIF, from GeoTIFF; uncertainty by place; contradictions."""

import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from cracktool.errors import InputError, UsageError
from cracktool.georeference import read_georeference
from cracktool.measuring import agree_on, given_scale, measure, scale_from_aruco, scale_from_exif, scale_from_geotiff

ONE = np.array([[10.0, 20.0]])


def marker_photo(corners, shape=(480, 640), dictionary=cv2.aruco.DICT_4X4_50):
    """Return a photo of markers whose black squares have the given corners (x, y)."""
    photo = np.full(shape, 200, np.uint8)
    for number, each in enumerate(corners):
        marker = cv2.aruco.generateImageMarker(cv2.aruco.getPredefinedDictionary(dictionary), number, 240)
        square = np.float32([[0, 0], [240, 0], [240, 240], [0, 240]]) - 0.5
        turn = cv2.getPerspectiveTransform(square, np.float32(each))
        laid = cv2.warpPerspective(marker, turn, shape[::-1], flags=cv2.INTER_AREA, borderValue=200)
        inside = cv2.warpPerspective(np.full_like(marker, 255), turn, shape[::-1]) > 0
        photo[inside] = laid[inside]
    return cv2.GaussianBlur(photo, (0, 0), 0.8)


def upright(x, y, side):
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side]]


def test_a_given_scale_is_the_same_everywhere():
    scale = given_scale(0.25, 0.02)
    assert scale.to_mm(ONE).tolist() == [[2.5, 5.0]]
    assert scale.mm_per_px(np.array([[0.0, 0], [900, 3]])) == pytest.approx([0.25, 0.25])
    assert scale.relative_std_at(ONE) == pytest.approx([0.02])


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_impossible_scales(value):
    with pytest.raises(UsageError, match="mm per px is not possible"):
        given_scale(value)
    with pytest.raises(UsageError, match="marker's side"):
        scale_from_aruco(np.zeros((50, 50), np.uint8), value)
    with pytest.raises(UsageError, match="distance"):
        scale_from_exif("x.jpg", value)


def test_impossible_uncertainty():
    with pytest.raises(UsageError, match="uncertainty of 1"):
        given_scale(1, 1)


@pytest.mark.parametrize("dictionary", [cv2.aruco.DICT_4X4_50, cv2.aruco.DICT_6X6_250, cv2.aruco.DICT_APRILTAG_36h11])
def test_a_marker_seen_square_on(dictionary):
    scale = scale_from_aruco(marker_photo([upright(200, 150, 120)], dictionary=dictionary), 30)
    assert scale.mm_per_px(np.array([[210.0, 260.0]])) == pytest.approx([0.25], rel=0.005)
    assert scale.source == "aruco"


def test_perspective_is_corrected():
    plane_to_photo = np.array([[3.2, 0.3, 120], [0.1, 2.6, 90], [0.0006, 0.0014, 1]])  # mm to px, at a slant
    square = cv2.perspectiveTransform(np.float64([upright(10, 10, 40)]), plane_to_photo)[0]
    scale = scale_from_aruco(marker_photo([square]), 40)
    ends = cv2.perspectiveTransform(np.float64([[[5, 60], [65, 60]]]), plane_to_photo)[0][:, ::-1]  # 60 mm below it
    placed = scale.to_mm(ends)
    assert np.hypot(*(placed[1] - placed[0])) == pytest.approx(60, rel=0.01)
    near, far = scale.mm_per_px(np.array([[square[:, 1].mean(), square[:, 0].mean()], [470.0, 600.0]]))
    assert far > 1.1 * near  # another scale at the far corner


def test_a_marker_is_less_sure_far_away():
    scale = scale_from_aruco(marker_photo([upright(60, 60, 60)]), 20)
    near, far = scale.relative_std_at(np.array([[90.0, 90.0], [460.0, 620.0]]))
    assert 0.0005 < near < 0.01
    assert far > 3 * near


def test_markers_check_each_other():
    same = scale_from_aruco(marker_photo([upright(60, 60, 120), upright(400, 250, 120)]), 30)
    assert same.relative_std < 0.03
    with pytest.raises(InputError, match="markers contradict each other by"):
        scale_from_aruco(marker_photo([upright(60, 60, 120), upright(400, 250, 80)]), 30)


def test_beyond_the_horizon_there_is_no_surface():
    """A camera 1.5 m above a road, tilted down by 20 degrees: the horizon lies at row 109."""
    sine, cosine = np.sin(np.radians(20)), np.cos(np.radians(20))
    camera = np.array([[800, 0, 500], [0, 800, 400], [0, 0, 1.0]])
    to_photo = camera @ [[1, 0, 0], [0, -sine, 1500 * cosine], [0, cosine, 1500 * sine]]
    square = np.array([[[-200, 4400], [200, 4400], [200, 4000], [-200, 4000]]], float)  # mm right of and before it
    photo = marker_photo(cv2.perspectiveTransform(square, to_photo), (800, 1000))
    scale = scale_from_aruco(photo, 400)
    assert scale.holds(np.array([[140.0, 0], [140, 999], [799, 500]]))
    assert not scale.holds(np.array([[80.0, 0], [799, 500]]))
    mask = np.zeros(photo.shape, bool)
    mask[50:54, 100:900] = mask[40:700, 950:953] = mask[700:703, 100:300] = True
    found = measure(None, mask, scale=scale)
    assert (found.area_mm2, found.density) == (None, None)
    assert [crack.mm is None for crack in found.cracks] == [True, True, False]


def test_no_marker():
    with pytest.raises(InputError, match="no ArUco marker was found"):
        scale_from_aruco(np.full((90, 120, 3), 90, np.uint8), 20)


def photo_with(tmp_path, tags, size=(600, 400)):
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif.get_ifd(0x8769).update(tags)
    Image.new("RGB", size).save(path, exif=exif)
    return path


def test_focal_length_in_35_mm_terms(tmp_path):
    # 43.27 mm of diagonal at 26 mm: 3 m away the diagonal of 721.1 px covers 4.992 m.
    scale = scale_from_exif(photo_with(tmp_path, {0xA405: 26}), 3000, distance_relative_std=0.03)
    assert scale.mm_per_px(ONE) == pytest.approx([4992.3 / 721.11], rel=1e-3)
    assert scale.relative_std == pytest.approx(np.hypot(0.03, 0.2887 / 26), rel=1e-3)


def test_focal_length_and_pixel_density(tmp_path):
    # 1000 px per cm is 0.01 mm a pixel; at 50 mm from 2 m that is 0.4 mm.
    scale = scale_from_exif(photo_with(tmp_path, {0x920A: 50.0, 0xA20E: 1000.0, 0xA210: 3}), 2000)
    assert scale.mm_per_px(ONE) == pytest.approx([0.4], rel=1e-6)


def test_photos_without_a_focal_length(tmp_path):
    with pytest.raises(InputError, match=r"photo\.jpg: its EXIF data say no focal length"):
        scale_from_exif(photo_with(tmp_path, {0x920A: 50.0}), 2000)
    (tmp_path / "no.jpg").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"no\.jpg: its EXIF data cannot be read"):
        scale_from_exif(tmp_path / "no.jpg", 2000)


@pytest.fixture
def geotiff(tmp_path):
    rasterio = pytest.importorskip("rasterio")

    def write(transform, crs="EPSG:32632"):
        path = tmp_path / "photo.tif"
        profile = {"driver": "GTiff", "height": 30, "width": 40, "count": 1, "dtype": "uint8", "crs": crs}
        with rasterio.open(path, "w", transform=rasterio.Affine(*transform), **profile) as file:
            file.write(np.zeros((1, 30, 40), np.uint8))
        return path

    return write


def test_geotiff_transform(geotiff):
    scale = scale_from_geotiff(geotiff((0.002, 0, 4e5, 0, -0.003, 5e6)))
    moved = scale.to_mm(np.array([[10.0, 20.0], [11.0, 21.0]]))
    assert np.abs(moved[1] - moved[0]) == pytest.approx([3, 2])
    feet = scale_from_geotiff(geotiff((0.01, 0, 0, 0, -0.01, 0), "EPSG:2225"))
    assert feet.mm_per_px(ONE) == pytest.approx([3.048], rel=1e-4)


@pytest.mark.parametrize(
    "crs", ["EPSG:3857", "EPSG:3395", "+proj=merc +lat_ts=30 +ellps=WGS84", "EPSG:4087", "EPSG:3413"]
)
def test_units_of_maps_not_made_for_measuring_have_other_lengths_on_the_ground(geotiff, crs):
    rasterio, warp = pytest.importorskip("rasterio"), pytest.importorskip("rasterio.warp")
    utm = rasterio.Affine(1.0, 0, 5e5, 0, -1.0, 5540000)  # true within 0.04 %
    corners = [utm @ corner for corner in ((0, 0), (40, 0), (0, 30))]
    (x0, x1, x2), (y0, y1, y2) = warp.transform("EPSG:32632", crs, *zip(*corners, strict=True))
    turned = ((x1 - x0) / 40, (x2 - x0) / 30, x0, (y1 - y0) / 40, (y2 - y0) / 30, y0)
    scale = scale_from_geotiff(geotiff(turned, crs))
    assert scale.mm_per_px(ONE) == pytest.approx([1000], rel=5e-4)
    along_x, along_y = np.diff(scale.to_mm(np.array([[15.0, 20.0], [15.0, 21.0], [16.0, 21.0]])), axis=0)
    assert np.hypot(*along_x) == pytest.approx(1000, rel=5e-4)
    assert np.hypot(*along_y) == pytest.approx(1000, rel=5e-4)


def test_where_the_axes_of_a_map_are_askew_there_is_no_scale(geotiff):
    x, y = pytest.importorskip("rasterio.warp").transform("EPSG:4326", "+proj=sinu", [100], [50])
    path = geotiff((0.002, 0, x[0], 0, -0.002, y[0]), "+proj=sinu")
    with pytest.raises(InputError, match="askew on the ground"):
        scale_from_geotiff(path)


def test_maps_of_other_planets_have_no_scale(geotiff):
    assert read_georeference(geotiff((0.002, 0, 0, 0, -0.002, 0), "+proj=eqc +R=3396190")).unit_mm is None


@pytest.mark.parametrize(("unit", "mm"), [('"metre",1', 2), ('"foot",0.3048', 0.6096)])
def test_coordinates_of_a_building_site_are_lengths(geotiff, unit, mm):
    scale = scale_from_geotiff(geotiff((0.002, 0, 10, 0, -0.002, 20), f'LOCAL_CS["site",UNIT[{unit}]]'))
    assert scale.mm_per_px(ONE) == pytest.approx([mm])


def test_coordinate_systems_with_heights_are_known_by_their_plane(geotiff):
    geo = read_georeference(geotiff((0.5, 0, 4e5, 0, -0.5, 5e6), "EPSG:32632+5773"))
    assert geo.epsg == 32632
    assert geo.unit_mm == (1000, 1000)
    assert geo == read_georeference(geotiff((0.5, 0, 4e5, 0, -0.5, 5e6)))


def test_places_on_the_map(geotiff):
    geo = read_georeference(geotiff((0.5, 0, 4e5, 0, -0.5, 5e6)))
    assert geo.epsg == 32632
    assert geo.place(0, 0) == pytest.approx((400000.25, 4999999.75))  # the centre of the first pixel


def test_geotiff_in_degrees(geotiff):
    with pytest.raises(InputError, match="its coordinates are degrees"):
        scale_from_geotiff(geotiff((1e-7, 0, 8, 0, -1e-7, 50), "EPSG:4326"))


def test_tiff_without_georeference(geotiff, tmp_path):
    assert read_georeference(geotiff((1, 0, 5, 0, -1, 5), None)) is None
    with pytest.raises(InputError, match=r"no georeference \(say --mm-per-px\)"):
        scale_from_geotiff(tmp_path / "photo.tif")
    with pytest.raises(InputError, match="cannot be read as a GeoTIFF"):
        scale_from_geotiff(tmp_path / "none.tif")


def test_geotiff_without_rasterio(monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(UsageError, match="needs rasterio"):
        scale_from_geotiff("x.tif")


def test_the_surest_scale_is_taken():
    rough, sure = given_scale(0.2, 0.05), given_scale(0.21, 0.01)
    assert agree_on([rough, sure], (100, 100)) is sure
    assert agree_on([], (100, 100)) is None


def test_contradicting_scales():
    with pytest.raises(UsageError, match=r"contradict each other: given says 0\.2 mm per px, given says 0\.3"):
        agree_on([given_scale(0.2, 0.02), given_scale(0.3)], (100, 100))
