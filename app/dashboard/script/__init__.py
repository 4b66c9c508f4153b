"""The script that Streamlit runs for every session, in a folder without `pages/`: Streamlit makes
a menu of its own of such a folder."""
