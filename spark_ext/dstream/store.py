"""What a batch leaves for later ones: one file per stream, batch time and partition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyarrow import fs

from spark_ext.paths import file_system, write_whole

__all__ = ["Store"]


@dataclass(frozen=True, slots=True)
class Store:
    """Files below one folder; small enough to travel to the tasks that write and read them.

    Guarantee: a file appears whole or not at all; writing it again replaces it, so a task or a batch may run twice.

    Attributes
    ----------
    path : str
        Absolute folder or URI that driver and executors both reach.
    """

    path: str

    def write(self, stream: str, time_ms: int, partition: int, content: bytes) -> None:
        """Write one partition of a stream at a batch time."""
        files, root = file_system(self.path)
        folder = f"{root}/{stream}/{time_ms}"
        files.create_dir(folder, recursive=True)
        write_whole(files, f"{folder}/{partition}", content)

    def read(self, stream: str, time_ms: int, partition: int) -> bytes | None:
        """Read one partition; None if that stream left nothing there."""
        files, root = file_system(self.path)
        try:
            with files.open_input_file(f"{root}/{stream}/{time_ms}/{partition}") as opened:
                return bytes(opened.readall())
        except FileNotFoundError:
            return None

    def times(self, stream: str) -> list[int]:
        """Return the batch times of a stream that are there, in order."""
        files, root = file_system(self.path)
        found = files.get_file_info(fs.FileSelector(f"{root}/{stream}", allow_not_found=True))
        return sorted(int(one.base_name) for one in found if one.base_name.isdecimal())

    def drop(self, stream: str, *, before_ms: int) -> None:
        """Remove what a stream left before a batch time."""
        for time_ms in self._before(stream, before_ms):
            files, root = file_system(self.path)
            files.delete_dir(f"{root}/{stream}/{time_ms}")

    def remove(self, stream: str) -> None:
        """Remove all that a stream left, under its name or its name, a dot and more."""
        files, root = file_system(self.path)
        for one in files.get_file_info(fs.FileSelector(root, allow_not_found=True)):
            if one.base_name.partition(".")[0] == stream:
                files.delete_dir(one.path)

    def _before(self, stream: str, before_ms: int) -> Iterator[int]:
        return (time_ms for time_ms in self.times(stream) if time_ms < before_ms)
