"""Pixels for measuring and previews: rasters go through maps on disk, and measure as the same pixels held do."""

import numpy as np
import pytest

from cracktool.errors import OutputError
from cracktool.images import write_mask
from cracktool.inspection import InspectionOptions, Pair, inspect_photo, pixels
from cracktool.inspection.pixels import opened
from cracktool.inspection.preview import mask_preview, photo_preview
from cracktool.measuring import measure

rasterio = pytest.importorskip("rasterio", reason="the extra geo is not installed")


def write_raster(path, grey, **more):
    place = rasterio.Affine(0.001, 0, 500_000, 0, -0.001, 5_000_000)
    bands = grey[None] if path.parent.name == "masks" else np.stack([grey] * 3)
    options = {"driver": "GTiff", "dtype": "uint8", "count": len(bands), "crs": "EPSG:32632", "transform": place}
    with rasterio.open(path, "w", height=grey.shape[0], width=grey.shape[1], **options, **more) as file:
        file.write(bands)


@pytest.fixture
def raster(tmp_path):
    """A photo of 1100 x 700 px with a crack, and its mask, as GeoTIFFs."""
    grey = np.random.default_rng(0).normal(150, 3, (1100, 700)).round().astype(np.uint8)
    crack = np.zeros(grey.shape, np.uint8)
    crack[40:1060, 300:304] = 255
    grey[crack > 0] = 30
    for folder, values in (("photos", grey), ("masks", crack)):
        (tmp_path / folder).mkdir()
        write_raster(tmp_path / folder / "bridge.tif", values)
    return tmp_path / "photos" / "bridge.tif", tmp_path / "masks" / "bridge.tif"


def measured(photo, mask, out):
    return inspect_photo(Pair(mask, photo, out, "bridge"), InspectionOptions()).row


def test_maps_on_disk_measure_as_arrays_do(raster, tmp_path, monkeypatch):
    held = measured(*raster, tmp_path / "held")
    monkeypatch.setattr(pixels, "_HELD", 0)
    with opened(*raster) as (photo, mask, shown):
        assert shown == 1
        assert isinstance(photo, np.memmap)
        assert isinstance(mask, np.memmap)
        folder = type(tmp_path)(mask.filename).parent
        assert folder.is_dir()
        found = measure(photo, mask)
    assert not folder.exists()
    assert len(found.cracks) == 1
    assert measured(*raster, tmp_path / "mapped") == held
    assert held["length_mm"] == pytest.approx(1020, abs=2)


@pytest.mark.parametrize("held", [0, 2**26])
def test_nodata_is_no_surface(raster, tmp_path, monkeypatch, held):
    monkeypatch.setattr(pixels, "_HELD", held)
    whole = measured(*raster, tmp_path / "whole")
    with rasterio.open(raster[0]) as file:
        grey = file.read(1)
    grey[:, :280] = 0
    write_raster(raster[0], grey, nodata=0)
    part = measured(*raster, tmp_path / "part")
    assert part["length_mm"] == whole["length_mm"]
    assert part["area_mm2"] == pytest.approx(0.6 * whole["area_mm2"])
    assert part["density_m_per_m2"] == pytest.approx(whole["density_m_per_m2"] / 0.6, rel=1e-4)
    assert part["area_percent"] == pytest.approx(whole["area_percent"] / 0.6, abs=2e-5)


def test_a_photo_of_nodata_has_no_density(raster, tmp_path):
    write_raster(raster[0], np.zeros((1100, 700), np.uint8), nodata=0)
    row = measured(*raster, tmp_path / "empty")
    assert (row["area_mm2"], row["density_m_per_m2"], row["area_percent"]) == (0, None, 0)


def test_a_mask_without_photo_has_the_scale_of_its_own_georeference(raster, tmp_path):
    row = measured(None, raster[1], tmp_path / "alone")
    assert row["scale_source"] == "geotiff"
    assert row["length_mm"] == pytest.approx(1020, abs=2)


def test_a_disk_that_is_full_is_said(raster, monkeypatch):
    monkeypatch.setattr(pixels, "_HELD", 0)

    def full(self, *args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(raster[0]), "open", full)
    with pytest.raises(OutputError, match=r"cannot be put aside.*No space left") as caught, opened(*raster):
        pass
    assert caught.value.path == raster[1]
    assert "GB are needed" in caught.value.remedy


def test_previews_of_rasters_are_made_band_by_band(raster, tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "_ROWS", 64)
    shown, factor = mask_preview(raster[1], 200)
    with rasterio.open(raster[1]) as file:
        plain = tmp_path / "plain.png"
        write_mask(plain, file.read(1) > 0)
    assert (shown, factor) == mask_preview(plain, 200)
    assert factor == 6
    assert photo_preview(raster[0], 200).startswith("data:image/jpeg;base64,")
