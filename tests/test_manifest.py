"""The dataset table: what is written is read back, and what cannot be understood is named with its line."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cracktool.errors import InputError, OutputError, UsageError
from cracktool.manifest import COLUMNS, FILE_NAME, Entry, Manifest, read_manifest, short_names, write_manifest

ENTRY = Entry(
    image="images/a.jpg",
    mask="masks/a.png",
    split="train",
    group="a",
    source="raw/a.jpg",
    height=20,
    width=30,
    crack_fraction=0.25,
    label="cracked",
    sha1="ab",
)
HEADER = ",".join(COLUMNS)
ROW = "images/a.jpg,masks/a.png,train,a,raw/a.jpg,20,30,0.25,cracked,ab"

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20) | st.sampled_from(
    ['a,"b"', "a\nb", "ü 裂"]
)
entries = st.builds(
    Entry,
    image=texts,
    mask=texts,
    split=st.sampled_from(["train", "val", "test"]),
    group=texts,
    source=texts,
    height=st.integers(1, 10**6),
    width=st.integers(1, 10**6),
    crack_fraction=st.just(-1.0) | st.integers(0, 10**6).map(lambda share: share / 10**6),
    label=st.sampled_from(["cracked", "uncracked", "unknown"]),
    sha1=texts,
)


def table(tmp_path, text):
    path = tmp_path / FILE_NAME
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(entries, max_size=5, unique_by=lambda entry: entry.image))
def test_round_trip(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("set") / FILE_NAME
    write_manifest(path, iter(rows))
    assert list(read_manifest(path).entries) == rows


@pytest.mark.parametrize("given_as", [lambda path: path, lambda path: path.parent, str, lambda path: str(path.parent)])
def test_folder_or_file(tmp_path, given_as):
    path = tmp_path / FILE_NAME
    write_manifest(path, [ENTRY])
    manifest = read_manifest(given_as(path))
    assert manifest.entries == (ENTRY,)
    assert manifest.folder == tmp_path
    assert manifest.image_path(ENTRY) == tmp_path / "images" / "a.jpg"
    assert manifest.mask_path(ENTRY) == tmp_path / "masks" / "a.png"
    assert manifest.mask_path(replace(ENTRY, mask="")) is None


def test_a_table_of_another_name(tmp_path):
    write_manifest(tmp_path / "subset.csv", [ENTRY])
    assert read_manifest(tmp_path / "subset.csv").entries == (ENTRY,)


def test_split(tmp_path):
    rows = [replace(ENTRY, image=f"{number}", split=split) for number, split in enumerate(["train", "test", "train"])]
    write_manifest(tmp_path / FILE_NAME, rows)
    manifest = read_manifest(tmp_path)
    assert [entry.image for entry in manifest.split("train").entries] == ["0", "2"]
    assert manifest.split("val").entries == ()
    assert manifest.split("test").folder == tmp_path
    with pytest.raises(UsageError, match=r"no split 'trian'.*train, val, test"):
        manifest.split("trian")


@pytest.mark.parametrize("missing", COLUMNS)
def test_missing_column(tmp_path, missing):
    names = [name for name in COLUMNS if name != missing]
    with pytest.raises(InputError, match=f"columns missing: {missing} "):
        read_manifest(table(tmp_path, ",".join(names) + "\n"))


def test_empty_file_lacks_all_columns(tmp_path):
    with pytest.raises(InputError, match="columns missing: image, mask"):
        read_manifest(table(tmp_path, ""))


def test_further_columns_any_order_and_a_mark_in_front(tmp_path):
    header, row = ",".join(["note", *reversed(COLUMNS)]), ",".join(["mine", *reversed(ROW.split(","))])
    assert read_manifest(table(tmp_path, f"\ufeff{header}\r\n{row}\r\n")).entries == (ENTRY,)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (",20,", ",tall,", "invalid literal.*'tall'"),
        (",30,", ",3.5,", "'3.5'"),
        (",30,", ",,", "invalid literal"),
        (",0.25,", ",much,", "could not convert.*'much'"),
        (",0.25,", ",1.5,", "crack_fraction '1.5'"),
        (",0.25,", ",nan,", "crack_fraction 'nan'"),
        (",0.25,", ",-0.5,", "crack_fraction '-0.5'"),
        (",train,", ",training,", "split 'training'"),
        (",cracked,", ",broken,", "label 'broken'"),
        (",cracked,ab", ",cracked", "not as many values"),
        (",cracked,ab", ",cracked,ab,more", "not as many values"),
        (ROW, "images/a.jpg", "not as many values"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path, old, new, reason):
    bad = ROW.replace(old, new)
    quoted = ROW.replace("raw/a.jpg", '"two\nlines"')
    path = table(tmp_path, f"{HEADER}\n{ROW}\n\n{quoted}\n{bad}\n{ROW}\n")
    with pytest.raises(InputError, match=f"{FILE_NAME}: line 6 cannot be understood: .*{reason}") as caught:
        read_manifest(path)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (f"{HEADER}\n{ROW}\n".encode("utf-16"), "not a UTF-8 text table"),
        (f"{HEADER}\n{ROW}\n".replace("raw", "r\xe4w").encode("latin-1"), "not a UTF-8 text table"),
        (f"{HEADER}\n{ROW}\n{'x' * 200_000}\n".encode(), "not a CSV table: field larger"),
    ],
)
def test_not_a_table(tmp_path, data, reason):
    with pytest.raises(InputError, match=reason):
        read_manifest(table(tmp_path, data))


def test_an_image_has_one_row(tmp_path):
    path = table(tmp_path, "\n".join([HEADER, ROW, ROW.replace("a.jpg", "b.jpg"), ROW.replace("train", "test")]))
    with pytest.raises(InputError, match=r"images/a\.jpg has 2 rows"):
        read_manifest(path)


def test_no_table(tmp_path):
    with pytest.raises(InputError, match=r"manifest.csv: no dataset table here .*crack prepare"):
        read_manifest(tmp_path)
    with pytest.raises(InputError, match=r"missing: no dataset table here"):
        read_manifest(tmp_path / "missing")


def test_a_name_that_is_not_unicode(tmp_path):
    bad = replace(ENTRY, image=b"images/\xff.jpg".decode(errors="surrogateescape"))
    with pytest.raises(OutputError, match=r"a file name is not Unicode: 'images/.*rename that file"):
        write_manifest(tmp_path / FILE_NAME, [ENTRY, bad])
    assert not list(tmp_path.iterdir())


def test_an_unwritable_place_leaves_the_old_table(tmp_path):
    path = table(tmp_path, "old")
    with pytest.raises(OutputError):
        write_manifest(path / "below.csv", [ENTRY])
    assert path.read_text() == "old"
    assert list(Path(tmp_path).iterdir()) == [path]


def test_folders_whose_paths_read_the_same_still_have_names_of_their_own():
    folders = [Path("/x_y/c"), Path("/x/y/c"), Path("/y/c")]
    names = short_names([Manifest(folder, ()) for folder in folders])
    assert len(set(names)) == 3
