"""Who holds a lease, and whether that process is still there."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

_SEPARATOR = "|"


def this_process() -> str:
    """A name for this process as the owner of leases: machine, process id, start time, a random part."""
    pid = os.getpid()
    return _SEPARATOR.join((_machine(), str(pid), _start_time(pid) or "", secrets.token_hex(4)))


def is_dead(owner: str) -> bool:
    """Whether ``owner`` is a process of this machine that has ended.

    False wherever that cannot be known (another machine, another system): its lease then has to expire.
    """
    parts = owner.split(_SEPARATOR)
    if len(parts) != 4 or parts[0] != _machine() or not parts[1].isdigit():  # see this_process
        return False
    started = _start_time(int(parts[1]))
    if started is None:
        return not _exists(int(parts[1]))
    return started != parts[2]


def _machine() -> str:
    """Host, boot and process namespace: equal only where process ids mean the same processes."""
    return f"{socket.gethostname()}/{_read('/proc/sys/kernel/random/boot_id')}/{_namespace()}"


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot, None where it is gone, a zombie or cannot be read."""
    stat = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(stat) < 20 or stat[0] in ("Z", "X"):  # proc(5): field 22 of the line, 20th after the name
        return None
    return stat[19]


def _exists(pid: int) -> bool:
    if Path("/proc/self/stat").exists():
        return False  # the start time of a living process would have been read
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
