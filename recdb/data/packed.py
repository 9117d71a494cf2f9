"""Packed files: recdb unpacks by their content those that Python can, and says how to unpack the others."""

import bz2
import gzip
import lzma
import zipfile
import zlib
from typing import Any, BinaryIO

from recdb.errors import InvalidInput

BEGINNING = 16
"""So many bytes tell the format."""

DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zipfile.BadZipFile)

# The first bytes of formats that recdb does not read: their names, and the way to a file that it reads.
OTHERS: dict[bytes, tuple[str, str]] = {
    b"\x28\xb5\x2f\xfd": ("a zstd file", "unpack it: zstd -dc FILE | recdb load -"),
    b"\x04\x22\x4d\x18": ("an lz4 file", "unpack it: lz4 -dc FILE | recdb load -"),
    b"\x1f\x9d": ("a file of compress", "unpack it: uncompress -c FILE | recdb load -"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it, and load the file in it"),
    b"Rar!\x1a\x07": ("a rar archive", "unpack it, and load the file in it"),
    b"PAR1": ("a Parquet file", "write it as CSV first, for example with DuckDB or pandas"),
    b"SQLite format 3\0": ("an SQLite database", "write its table as CSV: sqlite3 -header -csv FILE 'select ...'"),
    b"PGDMP": ("a dump of PostgreSQL", "restore it with pg_restore, and attach its table: recdb attach"),
    b"%PDF-": ("a PDF", "load a CSV file"),
}


def unpack(raw: BinaryIO, beginning: bytes, name: str) -> Any:
    """Return the content of a file as a stream of bytes, unpacked if it is packed.

    `beginning` holds the first bytes of the file. Raises InvalidInput for a format that recdb does not read.
    """
    for magic, (kind, hint) in OTHERS.items():
        if beginning.startswith(magic):
            raise InvalidInput(f"{name} is {kind}, which recdb load does not read", hint)
    if beginning.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)
    if beginning.startswith(b"BZh"):
        return bz2.BZ2File(raw)
    if beginning.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMAFile(raw)
    if beginning.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return open_member(raw, name)
    return raw


def open_member(raw: BinaryIO, name: str) -> Any:
    """Open the one file in a zip archive."""
    if not raw.seekable():
        raise InvalidInput(f"{name} is a zip archive, which cannot be read from a pipe", "name the file itself")
    archive = zipfile.ZipFile(raw)
    names = [info.filename for info in archive.infolist() if is_content(info)]
    if "[Content_Types].xml" in names or "mimetype" in names:
        raise InvalidInput(f"{name} is a spreadsheet or another document", "save the sheet as CSV, and load that")
    if len(names) != 1:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise InvalidInput(
            f"{name} is a zip archive of {len(names)} files: {shown}" if names else f"{name} is an empty zip archive",
            "load one of them: unzip -p ARCHIVE MEMBER | recdb load -" if names else None,
        )
    try:
        return archive.open(names[0])
    except (RuntimeError, NotImplementedError) as error:  # it has a password, or a method that Python lacks
        raise InvalidInput(
            f"cannot read {names[0]} in {name}: {error}", "unpack it, and load the file in it"
        ) from error


def is_content(info: zipfile.ZipInfo) -> bool:
    """Tell whether a member is a file, and neither a folder nor an addition of macOS."""
    return not info.is_dir() and not info.filename.startswith("__MACOSX/")
