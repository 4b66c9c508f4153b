"""How the dashboard's server is started: on this machine alone, known hosts only, no telemetry.
Imports no streamlit.

Streamlit's own defaults listen on every interface and take websockets from any host name (DNS
rebinding); its flags win over a config.toml in the working folder.
"""

import ipaddress
import os
from pathlib import Path

from lcmae import processes
from lcmae.errors import InputError

ADDRESS = "127.0.0.1"
SCRIPT = Path(__file__).parents[1] / "script" / "run.py"
"""What runs for every session."""

MAIN = SCRIPT.with_name("served.py")
"""What is served: the script, behind the fence."""

FLAGS = {
    "server.headless": "true",
    # MB: a checkpoint that is brought to the start page; photographs are held to 20 there
    "server.maxUploadSize": "2048",
    "server.fileWatcherType": "none",
    "server.enableStaticServing": "false",
    "server.enableAgentApi": "false",
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "type",
    "client.showErrorLinks": "false",
    "client.toolbarMode": "viewer",
    # or sentences that explain a constant of app/dashboard/main.py would stand on every page
    "runner.magicEnabled": "false",
    # after every answer it would walk all objects of torch, pandas and plotly: four fifths of an
    # answer's time
    "runner.postScriptGC": "false",
    # a session ends with its websocket: all that a page shows stands in its address. Kept ones hold
    # their memory and descriptors until somebody else comes
    "server.disconnectedSessionTTL": "0",
    # seconds; a browser that has gone without a word is noticed after twice as many
    "server.websocketPingInterval": "20",
    "theme.light.primaryColor": "#0072B2",
    # captions are this at 60 %: as dark as it is, so that they stand 4.5 to 1 off white
    "theme.light.textColor": "#14161d",
    "theme.dark.primaryColor": "#56B4E9",
}
"""Everything but address, port and hosts."""


def command(
    runs: Path,
    port: int | None,
    *,
    address: str = ADDRESS,
    hosts: tuple[str, ...] = (),
    adapters: tuple[str, ...] = (),
    data: tuple[str, ...] = (),
) -> list[str]:
    """The command line that serves the dashboard for the runs below `runs`.

    Without a port streamlit takes 8501 or the next free one. `hosts` are further names under which
    a browser may ask; `adapters` are the starter's own models, FILE.py:FUNCTION, and `data` their
    images, by the names of sources. Raises `InputError` where `runs` is no folder, or the port is
    none.
    """
    if runs.exists() and not runs.is_dir():
        raise InputError(f"expected a folder of runs, got a file: {runs}")
    if port is not None and not 1 <= port <= 65535:
        raise InputError(f"expected a port from 1 to 65535, got {port}")
    flags = {"server.address": address, **({} if port is None else {"server.port": str(port)}), **FLAGS}
    words = processes.module("lcmae.app.dashboard.server.process", "run", str(MAIN))
    words += [part for name, value in flags.items() for part in (f"--{name}", value)]
    for host in dict.fromkeys(("localhost", ADDRESS, address, *hosts)):
        words += ["--server.allowedHosts", host]
    words += ["--", "--runs", str(runs.absolute())]
    words += [part for name in data for part in ("--data", name)]
    return words + [part for adapter in adapters for part in ("--adapter", os.path.abspath(adapter))]


def warning(address: str) -> str | None:
    """One line for whoever binds the server to more than this machine; None where it stays here."""
    try:
        is_local = ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_local = address == "localhost"
    if is_local:
        return None
    return (
        f"warning: the dashboard listens on {address} and asks for no password; whoever reaches this port sees every "
        "run. Safer: keep 127.0.0.1 and use an SSH tunnel (ssh -L 8501:127.0.0.1:8501 HOST)"
    )
