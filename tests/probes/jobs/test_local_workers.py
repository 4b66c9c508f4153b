"""Local workers that are told to end while one of them computes."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = '''
import os, signal, sys, time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from lcmae.probes.jobs.executors import Engine
from lcmae.training.train import stop_signal

SIGN = Path(sys.argv[1]) / "computes"


def compute() -> None:
    """As training does, end in order at the first signal, in a while."""
    with stop_signal() as stop:
        SIGN.write_text(str(os.getpid()))
        while stop.received is None:
            time.sleep(0.01)
        time.sleep(2)


if __name__ == "__main__":
    with Engine(engine="local", workers=2).executor(SIGN.parent) as pool:
        running, idle = pool.submit(compute), pool.submit(os.getpid).result()
        while not SIGN.is_file() or not SIGN.read_text():
            time.sleep(0.05)
        for number in (int(SIGN.read_text()), idle):
            os.kill(number, signal.SIGTERM)
        print(type(running.exception()).__name__)
'''


def test_a_signal_to_an_idle_and_a_computing_worker_ends_both(tmp_path: Path) -> None:
    """The idle one dies with the lock of the queue."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.stdout.strip() == "BrokenProcessPool", done.stderr
