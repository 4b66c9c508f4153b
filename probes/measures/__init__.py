"""Pure functions of arrays. No file here imports a model, a mask or a probe.

- geometry: `similarity.py`, `ranks.py`, `canonical.py`, `neighbours.py`, `points.py`
- pairs of views: `paired_views.py`, `alignment.py`, `retrieval.py`
- what can be read off features: `classifiers.py`, `linear_probe.py`, `ridge.py`
- maps and pictures: `attention.py`, `faithfulness.py`, `corruptions.py`, `thumbnails.py`
"""
