"""How much lies in one place: files of one idea, folders that a person can overlook."""

import subprocess
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
MOST_LINES, MOST_MODULES = 500, 25

ONE_FILE_A_PROBE = {"probes", "app/figures", "app/dashboard/pages"}
"""Lists with one file a probe, and the folders of their tests, may be longer."""
UNBOUNDED = ONE_FILE_A_PROBE | {f"tests/{folder}" for folder in ONE_FILE_A_PROBE}


def python_files() -> list[Path]:
    """Files that git tracks, below the root; in a source distribution, all that are there."""
    listed = subprocess.run(["git", "ls-files", "-z", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        files = [Path(name) for name in listed.stdout.split("\0") if name]
    else:
        rooms = ("lcmae", "probes", "app", "tests", "benchmarks")
        files = [file.relative_to(ROOT) for room in rooms for file in (ROOT / room).rglob("*.py")]
    return [file for file in files if (ROOT / file).is_file()]


def test_no_file_is_over_500_lines() -> None:
    lengths = {str(file): len((ROOT / file).read_text().splitlines()) for file in python_files()}
    assert len(lengths) > 300
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_no_folder_has_more_than_25_modules() -> None:
    modules = Counter(str(file.parent) for file in python_files() if file.name != "__init__.py")
    assert {
        folder: count for folder, count in modules.items() if count > MOST_MODULES and folder not in UNBOUNDED
    } == {}


def test_every_folder_of_code_says_what_it_holds() -> None:
    rooms = {"lcmae", "probes", "app"}
    initials = [file for file in python_files() if file.name == "__init__.py" and file.parts[0] in rooms]
    assert len(initials) > 20
    assert [str(file) for file in initials if not (ROOT / file).read_text().startswith('"""')] == []


def test_no_file_imports_itself_through_others_even_late() -> None:
    # import-linter compares neighbours; a package and what lies in it are none
    graph = grimp.build_graph("lcmae")
    assert len(graph.modules) > 300
    # raises CycleError with the files of the ring
    TopologicalSorter({module: graph.find_modules_directly_imported_by(module) for module in graph.modules}).prepare()
