"""Pictures: every format and kind upright and in 8 bits; what is damaged gives one line, never a grey picture."""

import contextlib
import io
import re
import struct
import threading
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from cracktool import images
from cracktool.errors import InputError, OutputError, UsageError
from cracktool.images import (
    PngWriter,
    encode_jpeg,
    encode_png,
    read_grey,
    read_image,
    read_mask,
    read_size,
    write_mask,
)

RGB = np.random.default_rng(0).integers(0, 256, (21, 34, 3), np.uint8)
GREY = RGB[..., 0]
ALPHA = RGB[..., 1]
# Smooth enough that JPEG and WebP change it little, different in every corner and channel.
RAMP = (np.add.outer(np.arange(48) * 3, np.arange(64) * 1)[..., None] + np.array([0, 20, 40])).astype(np.uint8)


def encode(picture, kind, **options):
    file = io.BytesIO()
    (picture if isinstance(picture, PillowImage.Image) else PillowImage.fromarray(picture)).save(file, kind, **options)
    return file.getvalue()


def encode_opencv(picture, extension, *options):
    return cv2.imencode(extension, picture[..., ::-1] if picture.ndim == 3 else picture, list(options))[1].tobytes()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def as_rgb(grey):
    return np.repeat(grey[..., None], 3, 2)


def on_white(colour, alpha):
    return np.asarray(
        PillowImage.alpha_composite(
            PillowImage.new("RGBA", colour.shape[1::-1], "white"), PillowImage.fromarray(np.dstack([colour, alpha]))
        ).convert("RGB")
    )


def palette(**options):
    return encode(PillowImage.fromarray(RGB).quantize(16), "PNG", **options)


def exact_cases():
    deep = GREY.astype(np.uint16) << 8 | 77
    deep_rgb = RGB.astype(np.uint16) << 8 | 77
    few = PillowImage.fromarray(RGB).quantize(16)
    see_through = np.where(np.asarray(few) == 3, 0, 255).astype(np.uint8)
    colours = np.asarray(few.convert("RGB"))
    yield "PNG grey", encode(GREY, "PNG"), as_rgb(GREY)
    yield "PNG grey+alpha", encode(np.dstack([GREY, ALPHA]), "PNG"), on_white(as_rgb(GREY), ALPHA)
    yield "PNG RGB", encode(RGB, "PNG"), RGB
    yield "PNG RGBA", encode(np.dstack([RGB, ALPHA]), "PNG"), on_white(RGB, ALPHA)
    yield "PNG one transparent colour", encode(RGB, "PNG", transparency=(1, 2, 3)), RGB
    yield "PNG palette", palette(), colours
    yield "PNG palette, one transparent", palette(transparency=3), on_white(colours, see_through)
    fading = bytes([255, 255, 255, 0] + [255] * 12)
    yield "PNG palette, alphas", palette(transparency=fading), on_white(colours, see_through)
    yield "PNG 1 bit", encode(PillowImage.fromarray(GREY > 127), "PNG"), as_rgb(np.where(GREY > 127, 255, 0))
    yield "PNG 16-bit grey", encode(deep, "PNG"), as_rgb(GREY)
    yield "PNG 16-bit dark grey", encode(deep >> 8, "PNG"), np.zeros_like(RGB)
    yield "PNG 16-bit RGB", encode_opencv(deep_rgb, ".png"), RGB
    deep_rgba = np.dstack([deep_rgb, ALPHA.astype(np.uint16) * 257])
    yield "PNG 16-bit RGBA", encode_opencv4(deep_rgba), on_white(RGB, ALPHA)
    yield "PNG interlaced", interlaced(), as_rgb(np.array([[7]], np.uint8))
    for compression in ("raw", "tiff_lzw", "tiff_deflate"):
        yield f"TIFF grey {compression}", encode(GREY, "TIFF", compression=compression), as_rgb(GREY)
        yield f"TIFF RGB {compression}", encode(RGB, "TIFF", compression=compression), RGB
        yield f"TIFF 16-bit grey {compression}", encode(deep, "TIFF", compression=compression), as_rgb(GREY)
    yield "TIFF 16-bit dark grey", encode(deep >> 8, "TIFF"), np.zeros_like(RGB)
    yield "TIFF 16-bit RGB", encode_opencv(deep_rgb, ".tiff"), RGB
    yield "TIFF RGBA", encode(np.dstack([RGB, ALPHA]), "TIFF"), on_white(RGB, ALPHA)
    yield "BMP RGB", encode(RGB, "BMP"), RGB
    yield "BMP grey", encode(GREY, "BMP"), as_rgb(GREY)
    yield "BMP palette", encode(few, "BMP"), colours
    yield "WebP lossless", encode(RGB, "WEBP", lossless=True), RGB
    yield "PPM", encode(RGB, "PPM"), RGB
    yield "PGM", encode(GREY, "PPM"), as_rgb(GREY)
    yield "JPEG 2000", encode(RGB, "JPEG2000"), RGB


def encode_opencv4(rgba):
    return cv2.imencode(".png", rgba[..., [2, 1, 0, 3]])[1].tobytes()


def interlaced():
    body = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 1)
    parts = [chunk(b"IHDR", body), chunk(b"IDAT", zlib.compress(b"\0\7")), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("data", "expected"), [pytest.param(*case[1:], id=case[0]) for case in exact_cases()])
def test_lossless_kinds(data, expected):
    picture = read_image(data)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous
    assert picture.flags.writeable
    np.testing.assert_array_equal(picture, expected)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(RAMP, "JPEG", quality=95), RAMP),
        (encode(RAMP, "JPEG", quality=95, progressive=True), RAMP),
        (encode(RAMP[..., 0], "JPEG", quality=95), as_rgb(RAMP[..., 0])),
        (encode(PillowImage.fromarray(RAMP).convert("CMYK"), "JPEG", quality=95), RAMP),
        (encode(RAMP, "WEBP", quality=95), RAMP),
        (encode_jpeg(RAMP), RAMP),
        (encode_jpeg(RAMP) + b"garbage \xff\xd8 behind its end" * 9, RAMP),
        (encode(RAMP, "JPEG", quality=95, restart_marker_rows=1), RAMP),
        (encode(RAMP, "JPEG", quality=95, comment=b"\xff\xd9" * 40), RAMP),
        (b"\xff\xd8\xff\xff" + encode(RAMP, "JPEG", quality=95)[2:], RAMP),  # fill bytes in front of a marker
    ],
    ids=["RGB", "progressive", "grey", "CMYK", "WebP", "own", "garbage", "restart", "comment", "fill bytes"],
)
def test_lossy_kinds(data, expected):
    difference = np.abs(read_image(data).astype(int) - expected)
    assert difference.shape == RAMP.shape
    assert difference.max() <= 6


def turned(picture, orientation):
    """What a picture stored under an EXIF orientation looks like upright, by the EXIF table (TIFF 6, tag 274)."""
    return {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.swapaxes(0, 1),
        6: np.rot90(picture, -1),
        7: picture[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(picture),
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "tiled TIFF", "WEBP"])
def test_exif_orientation(orientation, kind, monkeypatch, tmp_path):
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "maker"  # a value outside the directory
    options = {"lossless": True} if kind == "WEBP" else {"compression": "tiff_lzw"} if kind == "tiled TIFF" else {}
    data = encode(RAMP, kind.split()[-1], exif=exif, **options)
    expected = turned(np.asarray(PillowImage.open(io.BytesIO(data))) if kind == "JPEG" else RAMP, orientation)
    np.testing.assert_array_equal(read_image(data), expected)
    np.testing.assert_array_equal(read_mask(data), PillowImage.fromarray(expected.copy()).convert("L") >= np.uint8(128))
    path = tmp_path / "file"
    path.write_bytes(data)
    assert read_size(path) == expected.shape[:2]
    monkeypatch.setattr(images, "opencv_pixels", lambda data: 0)
    np.testing.assert_array_equal(read_image(data), expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_grey_levels_are_those_of_the_colours(kind):
    y, x = np.mgrid[:48, :64]
    colours = np.stack([3 * x, 4 * y, 2 * x + y], axis=2).astype(np.uint8)
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # on its side
    data = encode(colours, kind, exif=exif)
    grey, expected = read_image(data, grey=True), cv2.cvtColor(read_image(data), cv2.COLOR_RGB2GRAY)
    assert grey.shape == expected.shape
    assert np.abs(grey.astype(int) - expected).max() <= 3


@pytest.mark.parametrize(
    ("exif", "orientation"),
    [
        (b"", 1),
        (b"Exif\0\0", 1),
        (b"Exif\0\0II*\0\x08\0\0\0", 1),  # ends before the directory
        (b"Exif\0\0II*\0\xff\xff\xff\xff", 1),  # directory outside
        (b"Exif\0\0II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x0112, 3, 1, 6), 6),
        (b"Exif\0\0MM\0*\0\0\0\x08\0\1" + struct.pack(">HHIHH", 0x0112, 3, 1, 8, 0), 8),
        (b"Exif\0\0II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x0112, 3, 1, 9), 1),  # no such orientation
        (b"Exif\0\0II*\0\x08\0\0\0\2\0" + struct.pack("<HHII", 0x010F, 2, 900, 9999), 1),  # cut short
    ],
)
def test_odd_exif_is_read_alike_by_both_decoders(exif, orientation, monkeypatch):
    data = encode(RAMP, "JPEG", exif=exif) if exif else encode(RAMP, "JPEG")
    stored = read_image(encode(RAMP, "JPEG"))
    np.testing.assert_array_equal(read_image(data), turned(stored, orientation))
    monkeypatch.setattr(images, "opencv_pixels", lambda data: 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow itself warns of damaged EXIF
        np.testing.assert_array_equal(read_image(data), turned(stored, orientation))


def refused(source, reason, capfd, path="<bytes>", reader=read_image):
    with pytest.raises(InputError, match=reason) as caught:
        reader(source)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def thumbnail_exif():
    """EXIF bytes that hold a whole JPEG, as cameras write them."""
    small = encode(RAMP[:16, :16], "JPEG")
    return b"Exif\0\0II*\0\x08\0\0\0\0\0" + b"\0" * 4 + small


CUT = {
    "JPEG": encode(RAMP, "JPEG"),
    "progressive": encode(RAMP, "JPEG", progressive=True),
    "thumbnail": encode(RAMP, "JPEG", exif=thumbnail_exif()),
    "CMYK": encode(PillowImage.fromarray(RAMP).convert("CMYK"), "JPEG"),
    "PNG": encode(RGB, "PNG"),
    "RGBA": encode(np.dstack([RGB, ALPHA]), "PNG"),
    "TIFF": encode(RGB, "TIFF"),
    "TIFF, directory last": encode_opencv(RGB, ".tiff"),
    "BMP": encode(RGB, "BMP"),
    "WebP": encode(RGB, "WEBP"),
}


@pytest.mark.parametrize("reader", [read_image, read_mask])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("kind", CUT)
def test_cut_short(kind, share, reader, capfd):
    data = CUT[kind]
    refused(data[: max(3, int(share * len(data)))], "cut short|not a picture, or damaged", capfd, reader=reader)


@pytest.mark.parametrize("kind", ["JPEG", "progressive", "thumbnail", "CMYK", "PNG", "RGBA"])
def test_cut_anywhere(kind, capfd):
    data = CUT[kind]
    for stop in [*range(8, len(data), 37), len(data) - 2, len(data) - 1]:
        refused(data[:stop], "cut short", capfd)


def test_a_thumbnails_end_is_not_the_end():
    data = CUT["thumbnail"]
    start_of_photo = data.rfind(b"\xff\xc0")
    assert b"\xff\xd9" in data[:start_of_photo]
    with pytest.raises(InputError, match="cut short"):
        read_image(data[: start_of_photo + 300])


def test_jpeg_padded_with_zeros_by_a_broken_copy(capfd):
    data = CUT["JPEG"]
    refused(data[: len(data) // 2].ljust(len(data), b"\0"), "cut short", capfd)


@pytest.mark.parametrize("kind", ["PNG", "RGBA"])
def test_png_cut_inside_with_an_end_chunk_glued_on(kind, capfd):
    data = CUT[kind]
    start = data.index(b"IDAT")
    for stop in range(start + 8, len(data) - 20, 211):
        refused(data[:stop] + chunk(b"IEND", b""), "cut short|damaged", capfd)


@pytest.mark.parametrize("kind", ["PNG", "RGBA"])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 0.99])
def test_png_pixels_missing_though_every_chunk_is_valid(kind, share):
    data = CUT[kind]
    header, start = data[:33], data.index(b"IDAT") + 4
    pixels = data[start : data.index(b"IEND") - 8]
    made = header + chunk(b"IDAT", pixels[: int(share * len(pixels))]) + chunk(b"IEND", b"")
    with pytest.raises(InputError, match=r"cut short|not a picture, or damaged"):
        read_image(made)  # libpng itself speaks on stderr here: only inflating twice could avoid it


@pytest.mark.parametrize("kind", ["PNG", "RGBA"])
@pytest.mark.parametrize("place", ["header", "pixels", "checksum"])
def test_png_checksum(kind, place, capfd):
    data = bytearray(CUT[kind])
    data[{"header": 20, "pixels": len(data) // 2, "checksum": data.index(b"IEND") - 5}[place]] ^= 0x10
    refused(bytes(data), "checksum", capfd)


def test_png_text_with_a_wrong_checksum_does_no_harm():
    data = CUT["PNG"]
    text = bytearray(chunk(b"tEXt", b"Comment\0hello"))
    text[-1] ^= 1
    np.testing.assert_array_equal(read_image(data[:33] + bytes(text) + data[33:]), RGB)


@pytest.mark.parametrize(
    "data",
    [
        b"hello, this is no picture\n" * 9,
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xe0\xff\xff\xff\xd9",
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n" + chunk(b"IEND", b""),
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"") + chunk(b"IEND", b""),
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*",
        b"BM" + bytes(60),
        b"RIFF\x10\0\0\0WEBPVP8 " + bytes(30),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",  # Pillow would start Ghostscript
        bytes(1000),
    ],
)
@pytest.mark.parametrize("reader", [read_image, read_mask])
def test_not_a_picture(data, reader):
    with pytest.raises(InputError) as caught:
        reader(data)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("reader", [read_image, read_mask])
def test_files_that_are_none(tmp_path, reader, capfd):
    empty, text, folder = tmp_path / "empty.png", tmp_path / "text.jpg", tmp_path / "folder.jpg"
    empty.touch()
    text.write_text("not a picture")
    folder.mkdir()
    refused(empty, "the file is empty", capfd, empty, reader)
    refused(text, "not a picture, or damaged", capfd, text, reader)
    refused(folder, "cannot be read: Is a directory", capfd, folder, reader)
    refused(str(tmp_path / "missing.png"), "No such file", capfd, tmp_path / "missing.png", reader)
    refused("a\0b.png", "cannot be read", capfd, r"'a\x00b.png'", reader)
    refused(b"", "the file is empty", capfd, reader=reader)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(sorted(CUT)), seed=st.integers(0, 2**32 - 1))
def test_damage_never_shows_another_error(kind, seed):
    rng = np.random.default_rng(seed)
    data = bytearray(CUT[kind])
    for place in rng.integers(0, min(len(data), rng.choice([40, 400, 10**6])), rng.integers(1, 9)):
        data[place] = rng.integers(256)
    for reader in (read_image, read_mask):
        with contextlib.suppress(InputError):  # anything else fails, a warning too
            assert reader(bytes(data)).ndim in (2, 3)


def planes_of_16_bits(picture):
    """A TIFF of 16-bit RGB, each colour in a plane of its own, uncompressed."""
    height, width = picture.shape[:2]
    pixels = np.moveaxis(picture.astype("<u2") * 257, 2, 0).tobytes()
    size = len(pixels) // 3
    after = 8 + 2 + 12 * 9 + 4  # header, count, entries, end
    places = [after + 30 + size * plane for plane in range(3)]
    entries = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, after), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 3, after + 6), (277, 3, 1, 3), (279, 4, 3, after + 18), (284, 3, 1, 2),
    ]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    values = struct.pack("<3H3I3I", 16, 16, 16, *places, *[size] * 3)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + values + pixels


@pytest.mark.parametrize("reader", [read_image, read_mask])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode((GREY / 255).astype(np.float32), "TIFF"), "its values are fractions"),
        (planes_of_16_bits(RGB), "its 16-bit colours lie in planes"),
    ],
)
def test_what_would_be_misread_is_refused(data, reason, reader, capfd):
    refused(data, f"{reason}.* gdal_translate", capfd, reader=reader)


def test_too_many_pixels_are_refused_before_memory_is_asked_for():
    header = b"BM" + struct.pack("<IHHI", 10**6, 0, 0, 54)
    data = header + struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    with pytest.raises(InputError, match="3600 megapixels are more than the limit of 268"):
        read_image(data)
    with pytest.raises(InputError, match=r"3600 megapixels are more than the limit of 0\.25"):
        read_image(data, max_pixels=250_000)


@pytest.mark.parametrize("name", ["plain.png", "with space.png", "Riß 裂缝 🧱.png", "no_extension"])
@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_names(tmp_path, name, kind):
    path = tmp_path / name
    path.write_bytes(encode(RGB, "PNG"))
    np.testing.assert_array_equal(read_image(kind(path)), RGB)


@pytest.mark.parametrize("shape", [(1, 1), (20, 30000), (30000, 20), (1, 65000)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
def test_extreme_sizes(shape, kind):
    grey = np.full(shape, 100, np.uint8)
    picture = read_image(encode(grey, kind))
    assert picture.shape == (*shape, 3)
    assert abs(int(picture.min()) - 100) <= 1
    assert read_mask(encode(grey, kind), threshold=90).all()


def test_a_png_longer_than_opencv_reads(capfd):
    long = encode_png(np.full((1, 1_000_001), 100, np.uint8))
    assert read_image(long).shape == (1, 1_000_001, 3)
    assert read_grey(long).min() == 100
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["RGBA", "TIFF", "BMP", "WebP", "CMYK"])
def test_pillows_limit_is_lifted_only_meanwhile(kind, monkeypatch):
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 10)  # a warning from 11 px on, an error from 21 px on
    assert read_image(CUT[kind]).ndim == 3
    assert PillowImage.MAX_IMAGE_PIXELS == 10
    with pytest.raises(InputError):
        read_image(CUT[kind][:-500])
    assert PillowImage.MAX_IMAGE_PIXELS == 10


def test_pillows_limit_is_back_after_many_threads(monkeypatch):
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 10)
    failures = []

    def work():
        try:
            for _ in range(20):
                read_image(CUT["BMP"])
        except (InputError, Warning) as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert PillowImage.MAX_IMAGE_PIXELS == 10


@pytest.mark.slow
@pytest.mark.parametrize("extension", [".jpg", ".png", ".bmp", ".tiff"])
def test_180_megapixels(extension):
    grey = np.zeros((9000, 20000), np.uint8)
    grey[::1000] = 200
    picture = read_image(encode_opencv(grey, extension))
    assert picture.shape == (9000, 20000, 3)
    assert picture[1000, 7, 0] > 100
    assert PillowImage.MAX_IMAGE_PIXELS == 89478485


def test_mask_threshold():
    data = encode(np.array([[0, 1, 127, 128, 255]], np.uint8), "PNG")
    for options, expected in [
        ({}, [0, 0, 0, 1, 1]),
        ({"threshold": 1}, [0, 1, 1, 1, 1]),
        ({"threshold": 255}, [0, 0, 0, 0, 1]),
    ]:
        mask = read_mask(data, **options)
        assert mask.dtype == np.bool_
        np.testing.assert_array_equal(mask, np.array([expected], bool))


@pytest.mark.parametrize(
    "data",
    [
        encode(PillowImage.fromarray(GREY > 127), "PNG"),
        encode(np.where(GREY > 127, 255, 0).astype(np.uint16), "PNG"),  # 8 bits' worth in 16
        encode(np.where(GREY > 127, 65535, 0).astype(np.uint16), "PNG"),
        encode(np.where(GREY > 127, 255, 0).astype(np.int32), "TIFF"),
        encode(as_rgb(np.where(GREY > 127, 255, 0).astype(np.uint8)), "PNG"),
        encode(np.dstack([np.where(GREY > 127, 255, 0), ALPHA]).astype(np.uint8), "PNG"),  # alpha says nothing
        encode(PillowImage.fromarray(np.where(GREY > 127, 255, 0).astype(np.uint8)).convert("P"), "PNG"),
        encode(
            PillowImage.fromarray(np.where(GREY > 127, 255, 0).astype(np.uint8)).convert("P"),
            "PNG",
            transparency=b"\0\x10\xff",
        ),
        encode(np.where(GREY > 127, 255, 0).astype(np.uint8), "BMP"),
    ],
    ids=["1 bit", "16 bit 255", "16 bit", "32 bit", "RGB", "alpha", "palette", "palette alphas", "BMP"],
)
def test_mask_kinds(data):
    np.testing.assert_array_equal(read_mask(data), GREY > 127)


def test_mask_that_went_through_jpeg():
    mask = np.zeros((48, 64), bool)
    mask[10:20, 8:50] = True
    data = encode(np.where(mask, 255, 0).astype(np.uint8), "JPEG", quality=60)
    assert (np.unique(np.asarray(PillowImage.open(io.BytesIO(data)))) % 255 != 0).any()
    np.testing.assert_array_equal(read_mask(data), mask)


def test_write_mask_is_a_one_channel_png_of_0_and_255(tmp_path):
    path = tmp_path / "sub" / "m.png"
    write_mask(path, GREY > 127)
    with PillowImage.open(path) as picture:
        assert (picture.format, picture.mode) == ("PNG", "L")
        np.testing.assert_array_equal(np.asarray(picture), np.where(GREY > 127, 255, 0))
    np.testing.assert_array_equal(read_mask(path), GREY > 127)


def test_write_mask_takes_0_and_255_too_and_nothing_else(tmp_path):
    write_mask(tmp_path / "m.png", np.where(GREY > 127, 255, 0).astype(np.uint8))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), GREY > 127)
    for wrong in (GREY, GREY / 255, (GREY > 127)[..., None], (GREY > 127)[:0], (GREY > 127).astype(np.uint8)):
        with pytest.raises(UsageError, match="no mask, but"):
            write_mask(tmp_path / "n.png", wrong)
    with pytest.raises(UsageError, match="a mask is a PNG file"):
        write_mask(tmp_path / "n.jpg", GREY > 127)
    assert [path.name for path in tmp_path.iterdir()] == ["m.png"]


@pytest.mark.parametrize("picture", [GREY, RGB, GREY[:1, :1], RGB[:1], RGB[::2, 5:9], np.asfortranarray(RGB), GREY.T])
def test_encode_png_round_trip(picture):
    data = encode_png(picture)
    np.testing.assert_array_equal(read_image(data), picture if picture.ndim == 3 else as_rgb(picture))
    with PillowImage.open(io.BytesIO(data)) as read:
        np.testing.assert_array_equal(np.asarray(read), picture)


def test_encode_png_is_no_larger_than_pillows():
    photo = read_image(Path(__file__).parents[1] / "examples" / "photos" / "pavement.jpg")
    mask = np.zeros((360, 640), np.uint8)
    cv2.polylines(mask, [np.array([[0, 40], [200, 90], [390, 300], [639, 350]])], False, 255, 9)
    for picture in (photo, mask):
        assert len(encode_png(picture)) < len(encode(picture, "PNG", compress_level=4))


@pytest.mark.parametrize(
    "data",
    [encode(GREY, "PNG"), encode(GREY, "PNG", transparency=7), encode(np.dstack([GREY, ALPHA]), "PNG"), interlaced()],
    ids=["plain", "one transparent", "alpha", "interlaced"],
)
def test_grey_pngs_are_read_as_pillow_does(data, monkeypatch):
    found = read_grey(data)
    monkeypatch.setattr(images, "is_plain_grey_png", lambda data: False)
    np.testing.assert_array_equal(found, read_grey(data))


@pytest.mark.parametrize("data", [b"", b"text", encode(RGB, "JPEG")[:20]])
def test_the_size_of_what_is_no_picture(data, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.jpg: not a picture, or damaged"):
        read_size(path)
    with pytest.raises(InputError, match=r"missing\.jpg: cannot be read: No such file"):
        read_size(tmp_path / "missing.jpg")


def test_encode_jpeg_keeps_thin_coloured_lines_and_obeys_quality():
    red = np.zeros((32, 32, 3), np.uint8)
    red[:, 15] = (255, 0, 0)
    assert read_image(encode_jpeg(red))[16, 15, 0] > 200  # half the colour resolution would halve it
    assert len(encode_jpeg(RGB, 30)) < len(encode_jpeg(RGB, 92))


def test_encode_jpeg_says_what_a_jpeg_cannot_hold():
    with pytest.raises(OutputError, match="at most 65500 px a side, not 65501x1"):
        encode_jpeg(np.zeros((1, 65501, 3), np.uint8))


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 90), bands=st.lists(st.integers(0, 40), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_png_writer_equals_pillows_reading(width, bands, seed):
    height = sum(bands) or 1
    picture = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    file = io.BytesIO()
    writer = PngWriter(file, height, width)
    at = 0
    for rows in bands:
        writer.write(picture[at : at + rows])
        at += rows
    writer.write(picture[at:])
    writer.close()
    with PillowImage.open(io.BytesIO(file.getvalue())) as read:
        assert read.mode == "L"
        np.testing.assert_array_equal(np.asarray(read), picture)
    np.testing.assert_array_equal(read_image(file.getvalue()), as_rgb(picture))
    assert not file.closed


def test_png_writer_takes_views_of_any_layout():
    file = io.BytesIO()
    writer = PngWriter(file, 17, 21)
    writer.write(GREY[:, ::2].T[:17])
    writer.close()
    np.testing.assert_array_equal(read_image(file.getvalue())[..., 0], GREY[:, ::2].T[:17])


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((2, 4), np.uint8),
        np.zeros((4, 5), np.uint8),
        np.zeros((1, 5), np.float32),
        np.zeros((1, 5), bool),
        np.zeros((1, 5, 3), np.uint8),
        np.zeros(5, np.uint8),
    ],
    ids=["width", "too many", "float", "bool", "RGB", "one axis"],
)
def test_png_writer_refuses_rows_that_do_not_fit(rows):
    writer = PngWriter(io.BytesIO(), 3, 5)
    with pytest.raises(ValueError, match=re.escape(f"{rows.dtype} {rows.shape}")):
        writer.write(rows)


def test_png_writer_refuses_to_end_early():
    writer = PngWriter(io.BytesIO(), 3, 5)
    writer.write(np.zeros((2, 5), np.uint8))
    with pytest.raises(ValueError, match="1 rows were never written"):
        writer.close()
