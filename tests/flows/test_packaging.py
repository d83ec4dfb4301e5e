"""The wheel, installed by itself and run from a folder full of traps."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"data", "index", "mining", "train", "flows"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT]
    subprocess.run(command, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_five_packages_whole(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {p for p in PACKAGES for _ in [0] if f"{p}/__init__.py" in names}
    assert ours == PACKAGES
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert str(path.relative_to(ROOT)) in names
    assert "flows/templates/report.html.j2" in names
    for path in (ROOT / "flows/serving/page").iterdir():
        assert str(path.relative_to(ROOT)) in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == PACKAGES


def test_the_command_runs_from_a_hostile_folder(wheel, tmp_path, config_file):
    home, hostile = tmp_path / "venv", tmp_path / "hostile"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    # Its own remine, everybody else's packages from here.
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    zipfile.ZipFile(wheel).extractall(site)
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    (hostile / "data").mkdir(parents=True)
    for trap in ("train.py", "index.py", "data/__init__.py", "data/store.py", "mining.py"):
        (hostile / trap).write_text("raise SystemExit('a stray module was imported')")
    environment = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "HOME": str(tmp_path),
    }
    program = "import sys; from flows.cli.app import main; sys.argv[0] = 'remine'; main()"
    options = ["--runner", "BundleBasedDirectRunner", "-s", "run.rounds=1", "-c", str(config_file)]
    workers = ["--", "--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    done = subprocess.run(
        [home / "bin" / "python", "-P", "-c", program, "run", *options, *workers],
        cwd=hostile,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "round 1   evaluate" in done.stderr
    assert "stray" not in done.stdout + done.stderr
