"""How the dashboard's server is started.

- `launch.py`: the command of the process: address, hosts, no telemetry
- `process.py`: that process
- `tuning.py`: what it does for room alone, each with its gain
"""
