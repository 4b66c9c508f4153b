"""Stored results: what they are of, where they lie, what they say. No file imports torch.

- `collection.py`: `Results`, the object that `lcmae.probe` and `lcmae.results` return
- `conditions.py`: a result's identity; `catalogue.py`: a file for each
- `store.py`: writing and reading one; `index.py`: reading it without HDF5
- `untrusted.py`: what a file from elsewhere may hold; `legacy.py`: results of earlier versions
- `networks.py`, `tables.py`, `differences.py`, `metric_directions.py`: what is made of them
"""
