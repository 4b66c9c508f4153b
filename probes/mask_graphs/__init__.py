"""The mask_graph probe's appendix: the mask-induced augmentation graph.

- `numbers.py`: what is said of a graph, however it was found; read it first
- `kernel.py`, `sample.py`: estimates for real images, which never share a content exactly
- `discrete.py`: exact numbers for images that can be listed
- `palette_images.py`, `toy.py`: a world whose graph is known, and the estimators held against it
"""
