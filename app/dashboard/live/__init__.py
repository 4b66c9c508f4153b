"""Models that answer while a person waits. Read `models.py` first, then `inspection.py`.

- `models.py`: models that are loaded once, shared, and bounded in memory
- `inspection.py`: one checkpoint, one image, one mask -> the microscope's numbers
- `cache.py`, `compute.py`, `prefetch.py`: values that are shared, the two threads that compute,
  and what is computed before it is asked for
- `selection.py`, `uploads.py`: what a session has chosen, and the images that it brought
"""
