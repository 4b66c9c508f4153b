"""The hierarchy probe's appendix: images whose latents are known.

- `separator.py`: which latents the visible and the hidden part share, by theory
- `shared_levels.py`: the same as labelled numbers, by mask
- `decoding.py`: which latents can be read off features
"""
