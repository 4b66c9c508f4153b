"""What importing costs: nothing for `lcmae`, and torch, timm and five small packages for the
training core."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lcmae

CORE = ("torch", "timm", "einops", "numpy", "safetensors", "rich", "pydantic")
MODULES = ("models", "masking", "objectives", "contrast", "distributed", "train", "config", "runs")

BLOCKED_IMPORT = """
import importlib, json, sys, traceback

class Without:
    # a finder that has never heard of some packages: find_spec is None and import fails, as where
    # they are missing
    def __init__(self, finder, names):
        self.finder, self.names = finder, names
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in self.names else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

request = json.load(sys.stdin)
sys.meta_path[:] = [Without(finder, set(request["absent"])) for finder in sys.meta_path]
result = {}
for module in request["modules"]:
    try:
        importlib.import_module(module)
        result[module] = ""
    except Exception:
        result[module] = traceback.format_exc()
print(json.dumps({"errors": result, "loaded": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def needs(names: tuple[str, ...]) -> set[str]:
    """These distributions and all that they declare to need on this machine, without extras."""
    found: set[str] = set()
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:  # needed elsewhere only
            continue
        found.add(name)
        for text in requires:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(requirement.name))
    return found


def absent() -> list[str]:
    """Top-level modules of every installed distribution that the training core has no right to."""
    allowed = needs(CORE)
    ours = {"lcmae", "probes", "app"}
    return sorted(
        module
        for module, owners in packages_distributions().items()
        if module not in ours and not {canonicalize_name(owner) for owner in owners} & allowed
    )


def core_modules() -> list[str]:
    """The modules of the core that exist."""
    root = Path(str(lcmae.__file__)).parent
    return [f"lcmae.{name}" for name in MODULES if (root / f"{name}.py").exists() or (root / name).is_dir()]


@pytest.fixture(scope="module")
def bare() -> dict[str, str]:
    """What importing each module of the core said where nothing else is installed; empty where it
    went well."""
    request = json.dumps({"modules": core_modules(), "absent": absent()})
    command = [sys.executable, "-W", "error", "-c", BLOCKED_IMPORT]
    done = subprocess.run(command, input=request, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    # the block holds: what the rest of the house uses did not slip in
    assert not {"jaxtyping", "xarray", "plotly", "streamlit", "sklearn", "pandas", "tyro"} & set(answer["loaded"])
    return answer["errors"]


def test_the_block_blocks() -> None:
    names = absent()
    assert {"jaxtyping", "xarray", "plotly", "streamlit", "sklearn", "scipy", "pandas", "tyro", "h5py"} <= set(names)
    assert not {"torch", "timm", "einops", "numpy", "safetensors", "rich", "pydantic", "torchvision"} & set(names)


@pytest.mark.parametrize("module", core_modules())
def test_the_core_imports_with_seven_packages(bare: dict[str, str], module: str) -> None:
    assert bare[module] == ""


def test_importing_lcmae_loads_nothing_heavy() -> None:
    script = "import lcmae, json, sys; dir(lcmae); lcmae.__version__; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(json.loads(done.stdout))
    assert "lcmae" in loaded
    assert not {"torch", "timm", "numpy", "pydantic", "einops", "lcmae.models"} & loaded


def test_every_public_name_is_there() -> None:
    assert dir(lcmae) == sorted(lcmae.__all__)
    for name in lcmae.__all__:
        found = getattr(lcmae, name)
        # a module of the same name, imported later, would hide a function
        if not isinstance(found, ModuleType | str):
            assert find_spec(f"lcmae.{name}") is None, name


def test_rooms_are_loaded_when_entered() -> None:
    assert lcmae.contrast.__name__ == "lcmae.contrast"
    with pytest.raises(AttributeError, match=r"^module 'lcmae' has no attribute 'contrats'$"):
        lcmae.contrats  # type: ignore[attr-defined]  # noqa: B018
