"""Errors and samples.

- `running.py`, `moments.py`: means, covariances and moments that merge, batch after batch
- `jackknife.py`: standard errors of what is no mean; `intervals.py`: 95 % intervals
- `sample.py`: a capped sample of images; `seeds.py`: what its draws are made of
- `variables.py`: numbers with units and names, which is what results are made of
"""
