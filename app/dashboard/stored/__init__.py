"""What is stored, read without torch.

- `reading.py`: runs, steps, metrics and results, cached by path, time and size
- `measured.py`: which results share their conditions, and so may share an axis
- `trends.py`: one probe's results at every step of a run
- `grid_progress.py`: how far a comparison is
"""
