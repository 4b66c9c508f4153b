"""`lcmae dashboard`: runs and probe results in the browser, on this machine only."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import tyro
from pydantic import Field

from lcmae import processes
from lcmae.adapters.files import split
from lcmae.app.command_line.arguments import parse_arguments
from lcmae.app.command_line.image_options import ImageOptions, source_name
from lcmae.app.dashboard.server import launch
from lcmae.app.dashboard.server.brought import as_run
from lcmae.errors import InputError


class DashboardArguments(ImageOptions):
    """Serve the dashboard on 127.0.0.1. From another machine: ssh -L 8501:127.0.0.1:8501 HOST."""

    checkpoint: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Checkpoints to open in the microscope: runs, or files or folders of other libraries, which
    are first imported below --runs."""

    runs: Path = Path("runs")
    """Folder that is searched for runs."""

    port: int | None = Field(default=None, ge=1, le=65535)
    """Port; the first free one from 8501 by default."""

    hosts: tuple[str, ...] = ()
    """Further host names that browsers may use: the public name of a reverse proxy
    (docs/dashboard.md)."""

    data: tuple[str, ...] = ()
    """Your own images (a folder, a file, a source's name), offered on every page that takes images.
    --value-range, --bands and --masks apply to all of them."""

    masks: str | None = None
    """Segmentation masks of --data: a folder whose files have the images' names, or a column."""

    adapter: tuple[str, ...] = ()
    """Your own models beside the runs: FILE.py:FUNCTION, which returns lcmae.adapt(...). Their code
    runs with your rights."""


def run(arguments: Sequence[str]) -> int:
    """Serve until Ctrl-C."""
    options = parse_arguments(DashboardArguments, arguments, command="dashboard")
    said = (options.value_range, options.bands, None if options.masks is None else absolute_path(options.masks))
    if not options.data and any(one is not None for one in said):
        source_name(None, *said)  # refuses what is said of no images
    data = tuple(str(source_name(absolute(name), *said)) for name in options.data)
    from lcmae.app.dashboard.stored.names import name_of

    names = []
    for checkpoint in options.checkpoint:
        code, path = as_run(checkpoint, options.runs, next(iter(data), None))
        if code:
            return code
        names.append(name_of(*(Path(os.path.abspath(one)) for one in (path, options.runs))))
    where = f"/microscope?{urlencode({'a': names[0]})}" if names else ""
    return show(options.runs, options.port, options.hosts, options.adapter, data, where)


def absolute(name: str) -> str:
    """A path from the root on, with the kind before it and what is said behind it: a result that
    the dashboard stores can be opened from any folder. Names of sources as they are. `InputError`
    where nothing lies at the path of a kind."""
    from lcmae.data.kinds import KINDS, SOURCES
    from lcmae.data.names import parse_name

    parsed = parse_name(name)
    kind, colon, path = parsed.base.partition(":")
    if kind in SOURCES or not name.strip():
        return name
    before, path = (f"{kind}:", path) if colon and kind in KINDS else ("", parsed.base)
    masks = None if parsed.masks is None else absolute_path(parsed.masks)
    return str(replace(parsed, base=before + absolute_path(path, must_exist=bool(before)), masks=masks))


def absolute_path(path: str, *, must_exist: bool = False) -> str:
    """A path from the root on, where something lies there; else as it is, or `InputError`."""
    found = Path(path).expanduser()
    is_shards = "{" in found.name  # shards-{000..012}.tar
    if must_exist and not found.exists() and not is_shards:
        raise InputError(f"expected data at {path}, found neither a file nor a folder")
    return os.path.abspath(found) if found.exists() or (must_exist and is_shards) else path


def show(
    runs: Path,
    port: int | None,
    hosts: tuple[str, ...] = (),
    adapters: tuple[str, ...] = (),
    data: tuple[str, ...] = (),
    where: str = "",
) -> int:
    """Serve the dashboard over the runs below a folder until it is stopped, and over models and
    images of one's own; a browser is opened where there is a screen, at the address `where`."""
    for adapter in adapters:
        split(adapter)
    port = free_port(port)
    before = signal.signal(signal.SIGTERM, _stop)
    server = processes.start(launch.command(runs, port, hosts=hosts, adapters=adapters, data=data))
    print(f"dashboard: http://{launch.ADDRESS}:{port}{where} in about three seconds (Ctrl-C ends it)", file=sys.stderr)
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or sys.platform == "darwin":
        threading.Thread(target=_open_when_ready, args=(server, port, where), daemon=True).start()
    try:
        return server.wait()
    except KeyboardInterrupt:
        server.send_signal(signal.SIGINT)
        server.wait()
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)
        if server.poll() is None:
            server.terminate()
            server.wait()


def _stop(number: int, _: object) -> None:
    raise SystemExit(128 + number)  # the server ends with us, and its jobs with it


def free_port(port: int | None) -> int:
    """The port asked for, or the first free one from 8501. `InputError` where it is taken."""
    for candidate in range(8501, 8601) if port is None else [port]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((launch.ADDRESS, candidate))
            except OSError:
                continue
            return candidate
    raise InputError(f"expected a free port on {launch.ADDRESS}, got {port or '8501 to 8600, all'} in use")


def _open_when_ready(server: subprocess.Popen[bytes], port: int, where: str = "") -> None:
    for _ in range(120):
        with socket.socket() as probe:
            if probe.connect_ex((launch.ADDRESS, port)) == 0:
                webbrowser.open(f"http://{launch.ADDRESS}:{port}{where}")
                return
        if server.poll() is not None:
            return
        time.sleep(0.25)
