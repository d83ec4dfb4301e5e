"""The wheel and the editable form, each installed into a clean environment beside a user's project
that has modules of its own called data, train and index."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("data", "index", "mining", "train", "flows")
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]

MAIN = """
import sys
import index, train
from data.loader import labels, vectors
import remine
from remine.mining import MiningConfig, mine

assert (train.OWNER, index.OWNER) == ("the user", "the user")
config = MiningConfig(negatives=("hard",), max_positives=1)
print(len(mine(vectors(), labels(), config=config).triplets) > 0, remine.mine is mine)
"""
LOADER = """
import numpy as np

def vectors():
    return np.random.default_rng(0).normal(size=(40, 8)).astype("float32")

def labels():
    return [row // 4 for row in range(40)]
"""
CONFIG = """
[run]
store = "store"
rounds = 1
[data]
source = "vectors.npy"
labels = "labels.txt"
[train]
steps = 2
batch = 8
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([*PIP, "wheel", "--no-deps", "-w", folder, ROOT], check=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module", params=["wheel", "editable"])
def python(request, tmp_path_factory, wheel) -> Path:
    """The interpreter of a clean environment: its own remine, all other packages from here."""
    home = tmp_path_factory.mktemp(request.param)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    executable = home / "bin" / "python"
    form = [wheel] if request.param == "wheel" else ["--editable", ROOT]
    install = [*PIP, "--python", executable, "install", "--no-deps", *form]
    subprocess.run(install, check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    # A plain path: the .pth files in it, such as that of our own installation, are not read.
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    return executable


@pytest.fixture
def project(tmp_path) -> Path:
    """A user's project with modules of its own, and a config."""
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "loader.py").write_text(LOADER)
    for name in ("train", "index"):
        (folder / f"{name}.py").write_text("OWNER = 'the user'\n")
    (folder / "main.py").write_text(MAIN)
    (folder / "remine.toml").write_text(CONFIG)
    vectors = np.random.default_rng(0).normal(size=(80, 8)).astype(np.float32)
    np.save(folder / "vectors.npy", vectors)
    (folder / "labels.txt").write_text("".join(f"class {row // 4}\n" for row in range(80)))
    return folder


Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def call(tmp_path) -> Call:
    """Runs a command that must succeed."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTEST")
    }
    environment |= {"PREFECT_HOME": str(tmp_path / "prefect"), "HOME": str(tmp_path)}
    # Some machines of ours have it on; the user's scripts need their folder on the path.
    environment.pop("PYTHONSAFEPATH", None)

    def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        process = subprocess.run(
            list(map(str, command)),
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stdout + process.stderr
        return process

    return run


def test_the_wheel_holds_remine_alone_and_all_of_it(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"remine"}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".js", ".css", ".html", ".svg", ".j2"):
                assert f"remine/{path.relative_to(ROOT)}" in names
    assert {"remine/__init__.py", "remine/__main__.py", "remine/py.typed"} <= names


@pytest.mark.parametrize(
    ("arguments", "inside"),
    [(["main.py"], True), (["-m", "main"], True), (["project/main.py"], False)],
)
def test_a_project_keeps_its_own_modules(python, project, call, arguments, inside):
    folder = project if inside else project.parent
    assert call(python, *arguments, cwd=folder).stdout.split() == ["True", "True"]


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("form", ["command", "module"])
def test_remine_works_from_any_folder(python, project, call, inside, form):
    command = [python.parent / "remine"] if form == "command" else [python, "-m", "remine"]
    files = ["--embeddings", project / "vectors.npy", "--labels", project / "labels.txt"]
    folder = project if inside else project.parent
    call(*command, "mine", *files, "--out", project / "triplets", cwd=folder)
    assert list((project / "triplets").glob("*.parquet"))


def test_no_other_name_is_taken(python, tmp_path, call):
    program = "import importlib.util as u; print([n for n in {names} if u.find_spec(n)])"
    program = program.format(names=[*FOLDERS, "tests", "benchmarks", "robustness", "tools"])
    assert call(python, "-c", program, cwd=tmp_path).stdout.strip() == "[]"


def test_a_cycle_with_worker_processes_runs_in_a_folder_of_traps(python, project, call):
    for trap in ("train.py", "index.py", "data/__init__.py", "data/store.py", "mining.py"):
        (project / trap).write_text("raise SystemExit('a stray module was imported')")
    options = ["--runner", "BundleBasedDirectRunner", "-c", "remine.toml"]
    workers = ["--", "--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    process = call(python.parent / "remine", "run", *options, *workers, cwd=project)
    assert "round 1   evaluate" in process.stderr
    assert "stray" not in process.stdout + process.stderr
