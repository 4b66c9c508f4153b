"""The dashboard's own process: Streamlit, with room for its pages.

`lcmae.app.dashboard.server.launch.command` starts it with Streamlit's words: `python -P -m
lcmae.app.dashboard.server.process run app/dashboard/script/served.py ...`.
"""

import signal
import sys

from streamlit.web.cli import main

from lcmae.app.dashboard.server import tuning


def stop(number: int, _: object) -> None:
    """End in order, so that jobs end, too. The server hands a signal on once it has closed."""
    sys.exit(0)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    tuning.raise_descriptor_limit()
    main(prog_name="streamlit")
