"""`lcmae.stitch`: one model's encoder into another's decoder, by an affine map.

- `affine.py`: ridge regression between tokens, in closed form, from sums over images
- `stitch.py`: models and images -> the matrix of what each pair's masked loss rises by
"""
