"""Who may import whom: one way only, torch and optuna where they belong, and the command starts cheaply."""

from __future__ import annotations

import ast
import graphlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "nas"

# Each line imports from the lines above it alone; names on one line do not import each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "packages", "divergence"),
    ("compression", "objectives", "outcome", "target", "safety"),
    ("design", "workers"),
    ("choice", "own_code"),
    ("own_module", "own_family"),
    ("space", "describe", "front", "store", "artifact", "scoring", "lease", "surrogate", "recipe_sections"),
    ("record", "recipe", "shared_cache"),
    ("measurements", "serving", "proxies", "ties", "finalized", "own_objective", "growing"),
    ("data", "families", "study", "augment"),
    ("train", "measure"),
    ("compress", "teacher"),
    ("stages", "wording", "sketch"),
    ("networks", "importance"),
    ("pipeline", "lineage"),
    ("evaluate", "trial_program", "profile", "gains", "estimate", "supernet"),
    ("report", "deploy", "remeasure"),
    ("sensitivity", "finalize", "watch"),
    ("search", "doctor"),
    ("reproduce",),
    ("console", "progress_bar"),
    ("commands", "api"),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

# What needs torch; every other module neither imports it nor imports a module that does, not even inside a function.
# (The command line does reach these, inside its functions; it is checked by running it.)
WITH_TORCH = (
    "families",
    "augment",
    "train",
    "compress",
    "teacher",
    "stages",
    "sketch",
    "networks",
    "lineage",
    "pipeline",
    "evaluate",
    "trial_program",
    "profile",
    "estimate",
    "supernet",
    "search",
    "commands",
    "api",
    "cli",
    "__main__",
)
SINGLE_WITH_TORCH = (
    *("nas.measure.activations", "nas.measure.complexity", "nas.measure.cross_check", "nas.measure.platform"),
    *("nas.measure.startup_probe", "nas.doctor.identity_probe"),
    *(f"nas.measure.runtimes.{name}" for name in ("program_torch", "eager_torch", "cuda_torch", "inductor_torch")),
    *("nas.measure.runtimes.registry", "nas.measure.server"),  # the measuring process loads the runtime that it is for
    "nas.reproduce.run",
    *("nas.finalize.training", "nas.finalize.run", "nas.finalize.table"),
    *("nas.sensitivity.analysis", "nas.sensitivity.parts", "nas.sensitivity.run"),
)
TORCH = {"torch", "torchvision", "torch_pruning", "ptflops", "safetensors"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def import_statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """All import statements, those inside functions too, but not what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from (found for other in child.orelse for found in import_statements(ast.Module([other], [])))
        elif isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        else:
            yield from import_statements(child)


def imports_in(source: str) -> set[str]:
    """The modules that a source imports, in full; ``from a import b`` is a.b where that is a module of ours, else a."""
    found: set[str] = set()
    for statement in import_statements(ast.parse(source)):
        if isinstance(statement, ast.Import):
            found.update(alias.name for alias in statement.names)
        else:
            assert statement.level == 0, "imports are written in full"
            assert statement.module is not None
            for alias in statement.names:
                full = f"{statement.module}.{alias.name}"
                found.add(full if full in FILES else statement.module)
    return found


IMPORTS = {name: imports_in(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def ours(name: str) -> set[str]:
    """The modules of this package that a module imports, and the packages that importing them runs first."""
    found: set[str] = set()
    for imported in IMPORTS[name]:
        parts = imported.split(".")
        if parts[0] == "nas":
            found.update(".".join(parts[:length]) for length in range(2, len(parts) + 1))
    return {other for other in found if other != name and not name.startswith(f"{other}.")}


def top(name: str) -> str:
    """The name in the table that a module belongs to."""
    return name.split(".")[1]


MODULES = [name for name in FILES if name != "nas"]


def uses_torch(name: str) -> bool:
    return top(name) in WITH_TORCH or name in SINGLE_WITH_TORCH


TORCH_FREE = [name for name in MODULES if not uses_torch(name)]

# --- the way imports are found ---------------------------------------------------------------------------------------


def test_imports_are_found_wherever_they_stand() -> None:
    source = """
import os, numpy.linalg
from nas import data, __version__
from nas.store import Store
if TYPE_CHECKING:
    import onnxruntime
    from nas.study import Study
else:
    import json
def function():
    import torch.nn as nn
    class Inner:
        async def method(self):
            try:
                from optuna.trial import Trial
            except ImportError:
                import pickle
"""
    assert imports_in(source) == {
        "os", "numpy.linalg", "nas.data", "nas", "nas.store", "json", "torch.nn", "optuna.trial", "pickle"
    }  # fmt: skip


# --- order -----------------------------------------------------------------------------------------------------------


def test_the_table_names_exactly_what_is_there() -> None:
    assert sum(len(names) for names in LAYERS) == len(LEVEL)
    assert {top(name) for name in MODULES} == set(LEVEL)


def test_the_package_itself_imports_nothing_of_its_own() -> None:
    assert ours("nas") == set()


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_the_layers_above_it(name: str) -> None:
    others = {other for other in ours(name) if top(other) != top(name)}
    wrong = {other for other in others if LEVEL[top(other)] >= LEVEL[top(name)]}
    assert not wrong, f"{name} must not import {', '.join(sorted(wrong))}"


def test_nothing_imports_in_a_circle() -> None:
    graph = {name: ours(name) for name in FILES}
    try:
        order = list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"these import each other in a circle: {' → '.join(error.args[1])}")
    assert set(order) == set(FILES)


@pytest.mark.parametrize("name", [name for name in MODULES if name != "nas.families.module"])  # a person's own code
def test_nothing_is_imported_by_a_name_made_at_run_time(name: str) -> None:
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not called & {"__import__", "importlib.import_module", "import_module"}


# --- heavy packages --------------------------------------------------------------------------------------------------


def packages(name: str) -> set[str]:
    return {imported.split(".")[0] for imported in IMPORTS[name]}


@pytest.mark.parametrize("name", MODULES)
def test_only_the_search_imports_optuna(name: str) -> None:
    assert ("optuna" not in packages(name)) or top(name) in ("search", "importance")


@pytest.mark.parametrize("name", TORCH_FREE)
def test_a_module_without_torch_does_not_reach_it_even_inside_a_function(name: str) -> None:
    assert not packages(name) & TORCH
    wrong = {other for other in ours(name) if uses_torch(other)}
    assert not wrong, f"{name} must not import {', '.join(sorted(wrong))}"


def test_what_may_use_torch_does() -> None:
    """Else the exceptions above would be out of date."""
    for name in (*(f"nas.{name}" for name in WITH_TORCH if name not in ("cli", "__main__")), *SINGLE_WITH_TORCH):
        below = {module for module in FILES if module == name or module.startswith(f"{name}.")}
        assert any(packages(module) & (TORCH | {"optuna"}) or any(map(uses_torch, ours(module))) for module in below)


def loaded_after(script: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after a script."""
    report = "\nimport json, sys\nprint(json.dumps(sorted({n.split('.')[0] for n in sys.modules})), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script + report], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


HEAVY = {
    "torch",
    "optuna",
    "onnxruntime",
    "onnx",
    "matplotlib",
    "plotly",
    "sklearn",
    "scipy",
    "PIL",
    "moocore",
    "jinja2",
}


def loaded_by_help(*commands: str) -> set[str]:
    """The packages that a fresh interpreter has loaded after showing the help of these commands."""
    script = f"""
import sys, nas.cli
for command in {commands}:
    sys.argv = ["nas", *command.split(), "--help"]
    try:
        nas.cli.main()
    except SystemExit as ended:
        assert ended.code == 0, ended.code
    else:
        raise AssertionError("main returned")
"""
    return loaded_after(script)


def test_help_loads_nothing_heavy() -> None:
    loaded = loaded_by_help("")
    assert "nas" in loaded
    assert sorted(loaded & (HEAVY | {"pydantic", "numpy"})) == []


def test_the_help_of_a_command_loads_nothing_heavy() -> None:
    """Typer itself checks a command's options by pydantic, from its version 0.29 on."""
    commands = (
        "search",
        "doctor",
        "measure",
        "pick",
        "report",
        "plot",
        "compare",
        "watch",
        "finalize",
        "serve",
        "verify",
    )
    assert sorted(loaded_by_help(*commands) & (HEAVY | {"numpy"})) == []


def test_whatever_reads_a_study_loads_without_torch_and_without_what_only_drawing_or_running_needs() -> None:
    readers = [name for name in TORCH_FREE if top(name) != "surrogate"]  # which decides during a search, with sklearn
    loaded = loaded_after(f"import {', '.join(readers)}")
    assert {"nas", "numpy", "pydantic"} <= loaded
    assert sorted(loaded & HEAVY) == []
