"""What the dashboard computes in other processes.

- `queue.py`: one queue a server; `worker.py`: the process of one of its jobs
- `reader.py`: checkpoints from elsewhere, opened by `inspect_many.py`, which has nothing to lose
"""
