"""The application that `streamlit run` serves: the script for every session, behind the fence.
Streamlit finds it by its name, `app`."""

from pathlib import Path

from starlette.middleware import Middleware
from streamlit import App

from lcmae.app.dashboard.server.fence import Fence

app = App(Path(__file__).with_name("run.py"), middleware=[Middleware(Fence)])
