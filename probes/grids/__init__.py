"""Comparisons of runs: `lcmae compare` and `lcmae advise`.

- `cells.py`: what is compared, as settings and as cells; read it first
- `run.py`: trains and probes every cell, resumable; `table.py`: one row a run
- `racing.py`: which cells are worth more compute
- `image_statistics.py`, `advising.py`, `advice.py`: `lcmae advise`, from images to a page
- `prediction.py`: which stored number predicts accuracy, and whether it beats a rule
- `statistics.py`, `scales.py`: which cells differ, on which scale; `verdict.py`: in words
"""
