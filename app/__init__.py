"""What a person touches: the command line, figures, the report and the dashboard.

- `cli.py`: the command `lcmae`; `commands/` has a file a command, `command_line/` what they share
- `figures/`: labelled numbers -> plotly; no torch, no streamlit; public as `lcmae.plot`
- `report.py`: the same figures as one HTML file
- `dashboard/`: the same figures as pages, and the live microscope
"""
