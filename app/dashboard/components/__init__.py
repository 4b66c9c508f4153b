"""What pages are built of. No component knows a probe.

- `probe_page.py`: shows any probe's page; `answer.py`: its sentence and headline numbers;
  `picks.py`: the runs and the step in the address bar
- `compute_button.py`, `command.py`: what is missing, with the command that computes it
- `export.py`: figures, tables and results to take along; `numbers.py`, `curves.py`: what is shown
- `patch_board.py`, `image_drop.py`: the two that run JavaScript in the browser
"""
