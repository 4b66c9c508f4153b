"""The dashboard's own process: Streamlit, after the tuning that a target needs.

`lcmae.app.dashboard.server.launch.command` starts it with Streamlit's words: `python -P -m
lcmae.app.dashboard.server.process run app/dashboard/script/run.py ...`.
"""

from streamlit.web.cli import main

from lcmae.app.dashboard.server import tuning

if __name__ == "__main__":
    tuning.preload()
    main(prog_name="streamlit")
