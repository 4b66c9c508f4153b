"""Checkpoints x probes, on any executor.

- `batch.py`: a job is one checkpoint with all its probes; read it first
- `executors.py`: processes here, Slurm, Dask; `slurm.py` makes an executor of submitit
- `direct.py`: `lcmae.probe`, from Python
- `watch.py`: `lcmae.Watch`, within a training; `trainer_callbacks.py`: the same in two trainers
"""
