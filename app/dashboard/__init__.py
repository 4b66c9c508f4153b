"""The dashboard. A session runs `main.py`, which draws the side bar and one page.

- `pages/`: a file a page; `page.py` says what a page of a probe is made of, `menu.py` an entry
- `components/`: what pages are built of
- `stored/`: reading runs and results, without torch
- `live/`: models that answer while one waits; `microscope/` is the page made of them
- `jobs/`: what is computed in processes of its own
- `server/`, `script/`: how the server is started, and what it runs for a session
- `glossary.py`: the words that a person reads, each in a sentence
"""
