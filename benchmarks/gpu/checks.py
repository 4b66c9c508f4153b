"""Are the fast steps right on this machine, and what can it do at most?"""

import argparse
import re
import subprocess
import sys
from dataclasses import asdict

from benchmarks.gpu.record import Record, Skipped

FILE = "tests/lcmae/training/test_step.py"
OUTCOME = re.compile(r"\b(PASSED|FAILED|ERROR|SKIPPED)\b (tests/\S+)|^(tests/\S+) (PASSED|FAILED|ERROR|SKIPPED)\b")


def tests(record: Record, options: argparse.Namespace) -> None:
    """Outcomes by name of the test, as they come."""
    # on a CPU the ones that need a GPU are skipped, which is an outcome, too; one more has another
    chosen = "cuda" if options.device == "cuda" else "cuda or spread_is"
    words = [sys.executable, "-m", "pytest", "-v", "-k", chosen, "-p", "no:cacheprovider", FILE]
    # other versions than ours may warn, which is not what is tested here
    words += ["-o", "filterwarnings=default"]
    words += ["-n", "5"] if options.device == "cuda" else ["-n", "0"]
    outcomes: dict[str, str] = {}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if found := OUTCOME.search(line):
                outcome, name = (found[1], found[2]) if found[1] else (found[4], found[3])
                outcomes.setdefault(name.partition("::")[2], outcome.lower())
                record.keep("outcomes", outcomes)
        code = process.wait()
    if code:
        raise RuntimeError(f"pytest ended with {code}; its output is in the log")


def roof(record: Record, options: argparse.Namespace) -> None:
    """Rates of a matrix product and a copy, in both precisions."""
    import torch

    from benchmarks.roof import measure_rates

    on_gpu, device = options.device == "cuda", torch.device(options.device)
    record.keep("versions", versions())
    with record.part("device"):
        if not on_gpu:
            raise Skipped("needs a CUDA device")
        about = torch.cuda.get_device_properties(device)
        record.keep(
            "device",
            {"name": about.name, "memory_bytes": about.total_memory, "multiprocessors": about.multi_processor_count},
        )
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        with record.part(name):
            side, size = (8192, 1 << 32) if on_gpu else (256, 1 << 20)
            rates = measure_rates(device, dtype, side=side, copy_bytes=size)
            record.keep(name, {"side": side, "copy_bytes": size, **asdict(rates)})


def versions() -> dict[str, str | None]:
    """Of what decides speed."""
    from benchmarks.gpu.run import version_of

    names = ("torch", "triton", "timm", "transformers", "numpy", "scipy", "xarray", "h5netcdf", "pydantic")
    return {name: version_of(name) for name in names}
