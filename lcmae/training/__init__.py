"""Training. `train.py` is the loop on one screen; read it first.

- `schedule.py`: which images and which rate belong to a step, so that resuming is exact
- `step.py`: one step, plain, compiled, or as a CUDA graph
- `distributed.py`: several devices through torchrun
- `metrics.py`, `monitor.py`, `trackers.py`: what is written down while it runs
- `classifiers.py`: kNN and a linear map, for the monitor
- `speed.py`: choices that change how fast a model computes, and not what
"""
