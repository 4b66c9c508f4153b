"""Servers that benchmarks/dashboard.py asks for pages: ours, and the least that there can be."""

import socket
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lcmae import processes
from lcmae.app.dashboard.server.launch import FLAGS, command
from tests.app.served import wait_for

BARE = """
    import plotly.graph_objects as go
    import streamlit as st

    st.plotly_chart(go.Figure(go.Scatter(x=[0, 1], y=[0, 1])))
"""
"""The least that a page with a figure takes on this machine: Streamlit's page, plotly's code, and
next to nothing to compute or to draw."""


@contextmanager
def bare_server() -> Iterator[str]:
    """The address of the peer."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "bare.py"
        script.write_text(textwrap.dedent(BARE))
        port = free_port()
        words = processes.module("streamlit", "run", str(script), "--server.port", str(port))
        words += [part for name, value in FLAGS.items() for part in (f"--{name}", value)]
        with served(words, port) as (address, _):
            yield address


@contextmanager
def server(runs: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """A server of its own process, as `lcmae dashboard` starts it; its address, as soon as it
    answers."""
    port = free_port()
    with served(command(runs, port), port) as found:
        yield found


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def served(words: list[str], port: int) -> Iterator[tuple[str, subprocess.Popen]]:
    """The address and process of a server, as soon as it answers."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(30)
