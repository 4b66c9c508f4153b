"""The script that Streamlit runs for every session. It lies apart from `main.py`, because Streamlit
makes a menu of its own out of a folder `pages` beside its script."""

from lcmae.app.dashboard.main import main

main()
