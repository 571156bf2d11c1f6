"""Files are replaced whole or not at all."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cracktool.errors import CrackError, OutputError
from cracktool.files import leftovers, open_atomic, replace_file


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    return path


def test_writes_and_replaces(old):
    replace_file(old, b"new")
    assert old.read_bytes() == b"new"
    assert list(old.parent.iterdir()) == [old]


def test_makes_missing_folders(tmp_path):
    path = tmp_path / "a" / "ü b" / "out.bin"
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"


def test_the_old_file_is_there_until_the_block_ends(old):
    with open_atomic(old) as file:
        file.write(b"new")
        file.flush()
        assert old.read_bytes() == b"old"
    assert old.read_bytes() == b"new"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, GeneratorExit])
def test_an_interrupted_block_changes_nothing(old, error):
    def write():
        with open_atomic(old) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert old.read_bytes() == b"old"
    assert list(old.parent.iterdir()) == [old]


def test_errors_of_the_package_pass_unchanged(old):
    with pytest.raises(CrackError, match=r"^mine$"), open_atomic(old):
        raise CrackError("mine")


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_rights_are_those_of_any_new_file(tmp_path, umask):
    # In a process of its own: the umask belongs to the whole process.
    code = f"""
import os, pathlib
from cracktool.files import replace_file
os.umask({umask})
for name in ("new", "old"):
    replace_file(pathlib.Path({str(tmp_path)!r}, name), b"x")
assert os.umask(0) == {umask}
"""
    (tmp_path / "old").write_bytes(b"y")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
    for name in ("new", "old"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask


def test_threads_do_not_disturb_each_other_or_the_umask(tmp_path):
    before = os.umask(0o027)
    try:

        def work(number):
            for turn in range(30):
                replace_file(tmp_path / f"{number}", bytes([number]) * turn)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(number) for number in range(8)]
    assert all(path.read_bytes() == bytes([int(path.name)]) * 29 for path in tmp_path.iterdir())


def test_one_name_written_by_many_threads_is_one_of_the_versions(tmp_path):
    path = tmp_path / "out"
    versions = [bytes([number]) * 100_000 for number in range(6)]
    threads = [threading.Thread(target=replace_file, args=(path, version)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in versions
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file(old):
    with pytest.raises(OutputError, match="cannot be written") as caught:
        replace_file(old / "below.bin", b"new")
    assert caught.value.path == old / "below.bin"
    assert old.read_bytes() == b"old"


def test_a_file_that_is_a_folder(tmp_path):
    (tmp_path / "out" / "full").mkdir(parents=True)
    with pytest.raises(OutputError, match="cannot be written: Is a directory"):
        replace_file(tmp_path / "out", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_right_to_write(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="Permission denied"):
        replace_file(tmp_path / "out", b"new")
    tmp_path.chmod(0o755)


def test_too_long_a_name(tmp_path):
    with pytest.raises(OutputError, match="File name too long"):
        replace_file(tmp_path / ("x" * 300), b"new")
    assert not list(tmp_path.iterdir())


class FullDisk:
    """Stands for a file on a disk that takes `room` bytes more."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def test_a_full_disk_while_writing(old, monkeypatch):
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *args, **more: FullDisk(real(self, *args, **more), 5))
    message = r"out\.bin: cannot be written: No space left on device \(make room and run the same again\)"
    with pytest.raises(OutputError, match=message):
        replace_file(old, b"123456")
    replace_file(old.with_name("small"), b"12345")
    monkeypatch.undo()
    assert old.read_bytes() == b"old"
    assert sorted(path.name for path in old.parent.iterdir()) == ["out.bin", "small"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_that_shows_only_when_the_file_is_closed(old, monkeypatch):
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *args, **more: real(Path("/dev/full"), "wb"))
    with pytest.raises(OutputError, match="No space left on device"):
        replace_file(old, b"1")  # stays in the buffer until the file is closed
    monkeypatch.undo()
    assert old.read_bytes() == b"old"


def test_leftovers_of_killed_writers(tmp_path):
    code = f"""
import os, pathlib, signal
from cracktool.files import open_atomic
with open_atomic(pathlib.Path({str(tmp_path)!r}, "sub", "out.bin")) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1])
    assert process.returncode == -signal.SIGKILL
    for name in (".keep", ".x.part", "0123456789abcdef.part", "out.bin"):
        (tmp_path / "sub" / name).write_bytes(b"of others")
    (left,) = leftovers(tmp_path)
    assert left.read_bytes() == b"half"
    assert not leftovers(tmp_path / "missing")
