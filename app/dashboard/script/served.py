"""The application that `streamlit run` serves: the script for every session, behind the fence.
Streamlit finds it by its name, `app`."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path

from starlette.middleware import Middleware
from streamlit import App

from lcmae.app.dashboard.server.fence import Fence

PREPARED = ("lcmae.app.dashboard.main", "lcmae.app.dashboard.pages.reconstruction", "h5netcdf.legacyapi")
"""What the first page of stored results imports; no torch."""


@asynccontextmanager
async def prepare(_: App) -> AsyncIterator[None]:
    """Import what pages need as soon as the server answers, while the first browser reads
    Streamlit's code."""
    threading.Thread(target=lambda: [import_module(name) for name in PREPARED], daemon=True).start()
    yield


app = App(Path(__file__).with_name("run.py"), middleware=[Middleware(Fence)], lifespan=prepare)
