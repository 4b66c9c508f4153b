"""Whether a zip is one that torch.save writes: its list of members, their names, and the values of
those that torch's reader obeys.

That reader is C++: it looks names up without regard to case, and takes `byteorder` and
`.storage_alignment` at their word, which ends the process for "big" and for "0".
"""

import re
import struct
import zipfile
from pathlib import Path

from lcmae.errors import CheckpointError
from lcmae.safety.text import reason, show

MAX_MEMBERS = 50_000
MAX_PICKLE = 16 * 2**20

MEMBERS: dict[str, tuple[re.Pattern[str], re.Pattern[bytes] | None]] = {
    "data.pkl": (re.compile(r"data\.pkl"), None),
    "data/N": (re.compile(r"data/[0-9]{1,6}"), None),
    "byteorder little": (re.compile("byteorder"), re.compile(b"little")),
    "version 1 to 99": (re.compile("version"), re.compile(rb"[1-9][0-9]?\n?")),
    ".format_version 1 to 9": (re.compile(r"\.format_version"), re.compile(b"[1-9]")),
    # powers of two
    ".storage_alignment 1 to 65536": (
        re.compile(r"\.storage_alignment"),
        re.compile(b"1|2|4|8|16|32|64|128|256|512|1024|2048|4096|8192|16384|32768|65536"),
    ),
    ".data/serialization_id": (re.compile(r"\.data/serialization_id"), re.compile(b"[0-9]{1,80}")),
}
"""What torch.save writes below the root folder of the zip, and the values that it writes there."""


def check_zip(path: Path) -> tuple[bytes, dict[str, int]]:
    """The pickle in a file of torch.save, and the size of each `data/N` by N. `CheckpointError`
    for any other zip."""
    size = path.stat().st_size
    _check_directory(path, size)
    try:
        with zipfile.ZipFile(path) as archive:
            return _check_members(path, archive, size)
    except CheckpointError:
        raise
    except (
        zipfile.BadZipFile,
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
        ValueError,
        struct.error,
    ) as error:
        raise CheckpointError(
            f"expected a whole checkpoint, got a damaged zip: {show(path)}: {reason(error)}"
        ) from error


def _check_members(path: Path, archive: zipfile.ZipFile, size: int) -> tuple[bytes, dict[str, int]]:
    members = archive.infolist()
    names = [member.filename for member in members]
    total = sum(member.file_size for member in members)
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(
            f"expected weights, got a TorchScript program: {show(path)}; if you trust it, "
            "torch.save(torch.jit.load(FILE).state_dict(), NEW_FILE)"
        )
    if any(member.compress_type != zipfile.ZIP_STORED for member in members) or total > size:
        raise CheckpointError(
            f"expected a checkpoint whose parts are stored as they are, got {show(path)} with {size} bytes that "
            f"unpack to {total}: a zip bomb, or a zip that torch.save did not write"
        )
    if len({name.lower() for name in names}) != len(names):
        raise CheckpointError(f"expected members with names of their own in {show(path)}, got the same name twice")
    roots = {name.partition("/")[0] for name in names}
    pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1 or len(roots) != 1:
        raise CheckpointError(f"expected a file of torch.save, got a zip without one data.pkl: {show(path)}")
    if archive.getinfo(pickles[0]).file_size > MAX_PICKLE:
        raise CheckpointError(f"expected a data.pkl of at most {MAX_PICKLE} bytes in {show(path)}, got more")
    for member in members:
        _check_member(path, archive, member)
    if (broken := archive.testzip()) is not None:
        raise CheckpointError(f"expected intact members in {show(path)}, got one that fails its checksum: {broken!a}")
    sizes = {name.rpartition("/")[2]: archive.getinfo(name).file_size for name in names if "/data/" in name}
    return archive.read(pickles[0]), sizes


def _check_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Refuse a member that torch.save does not write, or that it writes with another value."""
    inner = member.filename.partition("/")[2]
    # another name behind a NUL or in an extra field is read by one reader and not by the other
    plain = member.orig_filename == member.filename and member.filename.isascii()
    for what, (name, value) in MEMBERS.items():
        if plain and name.fullmatch(inner):
            if value is None:
                return
            found = archive.read(member) if member.file_size <= 100 else b"more than 100 bytes"
            if value.fullmatch(found):
                return
            raise CheckpointError(f"expected {what} in {show(path)}, got {found[:40]!a} in its member {inner!a}")
    raise CheckpointError(
        f"expected only the members that torch.save writes in {show(path)}, got {member.orig_filename[:80]!a}"
    )


def _check_directory(path: Path, size: int) -> None:
    """Refuse a zip whose list of members alone would fill the memory, or that two readers could
    find at two places, before Python reads that list."""
    with path.open("rb") as file:
        start = max(0, size - 2**16 - 22 - 76)
        file.seek(start)
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) - end < 22:
        raise CheckpointError(f"expected a whole checkpoint, got a zip that was cut off: {show(path)}")
    if len(tail) - end != 22:
        raise CheckpointError(f"expected a zip that ends with its list of members, got more behind it: {show(path)}")
    count, length, offset = struct.unpack("<HII", tail[end + 10 : end + 20])
    wide = tail.rfind(b"PK\x06\x06", 0, end)
    is_wide = tail[end - 20 : end - 16] == b"PK\x06\x07" if end >= 20 else False
    last = end
    if is_wide:
        located = struct.unpack("<Q", tail[end - 12 : end - 4])[0]
        if wide < 0 or located != start + wide or end - 20 - wide != 56:
            raise CheckpointError(f"expected a zip with one list of members, got one with two: {show(path)}")
        count, length, offset = struct.unpack("<QQQ", tail[wide + 32 : wide + 56])
        last = wide
    if count > MAX_MEMBERS or length > MAX_MEMBERS * 300:
        raise CheckpointError(f"expected at most {MAX_MEMBERS} members in {show(path)}, got {count}")
    if count and offset + length != start + last:
        raise CheckpointError(
            f"expected a whole checkpoint, got a damaged zip whose list of members lies elsewhere: {show(path)}"
        )
