"""Labelled numbers -> `plotly.graph_objects.Figure`. A probe's figures lie in the file of its name.
No file imports torch or streamlit; `lcmae.plot` is the public door.

Shared by them: `style.py` (colours, template, axis titles), `series.py` (dots and curves with
intervals), `limits.py` (ranges), `patch_maps.py` (maps of one image), `attention.py` (both
attention probes), `baselines.py` (untrained network and raw pixels beside the numbers of a run).
"""
