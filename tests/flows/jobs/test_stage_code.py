"""What changes a stage's key, and what does not, on a copy of the source."""

import re
import shutil
import tempfile
from pathlib import Path

import pytest

from remine.flows.jobs.stage_code import ROOT, code_hash, imported_modules

STAGES = (
    "prepare",
    "features",
    "embed",
    "encoder",
    "index",
    "evaluate",
    "mine",
    "confusable_classes",
    "train",
)
CHANGED = {
    "data/schemas.py": STAGES,
    "data/items/inputs.py": set(STAGES) - {"index", "evaluate", "mine", "confusable_classes"},
    "data/sources/table.py": ("prepare",),
    # A head into fewer dimensions starts from the features of a sample.
    "index/embed.py": ("features", "embed", "encoder", "train"),
    # A round ends with the weights that are best on val.
    "index/metrics.py": ("evaluate", "train"),
    "index/build.py": ("prepare", "index"),
    "mining/search/scan.py": ("mine",),
    "mining/confusion.py": ("confusable_classes", "train"),
    "mining/in_batch/miners.py": ("train",),
    "train/losses/triplet.py": ("train",),
    "train/encoders/heads.py": ("prepare", "features", "embed", "encoder", "train"),
    "flows/stages/embed.py": ("embed",),
    "flows/stages/shard.py": ("features", "embed", "mine", "confusable_classes", "train"),
}
"""Some modules, and the stages that import them: all that a change of one does again."""
NEVER = (
    "data/store/gc.py",
    "data/store/history.py",
    "flows/cli/main.py",
    "flows/config/template.py",
    "flows/cycle/cycle.py",
    "flows/cycle/forecast/stages.py",
    "flows/cycle/status.py",
    "flows/jobs/beam.py",
    "flows/jobs/torchrun.py",
    "flows/query/answers.py",
    "flows/report/cycle_page.py",
    "flows/serving/app.py",
    "mining/suspects.py",
)
"""Modules that can change no result of a stage."""


@pytest.fixture(scope="module")
def copies(tmp_path_factory) -> Path:
    """A folder for copies of the source; `root` is the unchanged one."""
    folder = tmp_path_factory.mktemp("copies")
    _copy(folder / "root")
    return folder


def _copy(root: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__", "page", "templates")
    shutil.copytree(ROOT / "remine", root / "remine", ignore=ignore)


def hashes(root: Path) -> dict[str, str]:
    return {stage: code_hash(f"remine.flows.stages.{stage}", root) for stage in STAGES}


def changed(copies: Path, path: str, edit) -> set[str]:
    """The stages whose hash changes with an edit of the text of one file."""
    # A folder of its own: hashes are remembered by folder.
    root = Path(tempfile.mkdtemp(dir=copies))
    _copy(root)
    file = root / "remine" / path
    before = file.read_text()
    file.write_text(edit(before))
    assert file.read_text() != before
    old, new = hashes(copies / "root"), hashes(root)
    shutil.rmtree(root)
    return {stage for stage in STAGES if old[stage] != new[stage]}


def new_line(text: str) -> str:
    return f"{text}\n\ndef _one_more() -> int:\n    return 1\n"


@pytest.mark.parametrize(("path", "stages"), CHANGED.items())
def test_a_changed_line_does_exactly_the_stages_again_that_import_it(copies, path, stages):
    assert changed(copies, path, new_line) == set(stages)


@pytest.mark.parametrize("path", NEVER)
def test_a_report_or_a_command_does_no_stage_again(copies, path):
    assert not changed(copies, path, new_line)


def other_prose(text: str) -> str:
    """The text with other comments, docstrings and line breaks."""
    first = text.index('"""') + 3
    text = text[:first] + "Other words. " + text[first:]
    text = re.sub("^( +)return ", r"\1# Why not.\n\1return ", text, flags=re.MULTILINE)
    return text + "\n# The end.\n"


@pytest.mark.parametrize("path", CHANGED)
def test_a_comment_or_a_docstring_does_no_stage_again(copies, path):
    assert not changed(copies, path, other_prose)


def test_a_docstring_where_there_was_none_does_no_stage_again(copies):
    function = "def _is_ours(module: str | None) -> bool:\n"

    def edit(text: str) -> str:
        return text.replace(function, function + '    """New."""\n')

    assert not changed(copies, "flows/jobs/stage_code.py", edit)
    assert changed(copies, "flows/jobs/stage_code.py", new_line) == set(STAGES)


def test_imports_that_never_run_are_not_followed(tmp_path):
    package = tmp_path / "remine"
    package.mkdir()
    (package / "stage.py").write_text(
        '"""A stage."""\n'
        "from typing import TYPE_CHECKING\n"
        "from remine.used import value\n"
        "if TYPE_CHECKING:\n    from remine.typing_only import Kind\n"
        "def work():\n    from remine.folder import lazy\n    import remine.whole\n"
    )
    for name in ("used", "typing_only", "whole", "alone"):
        (package / f"{name}.py").write_text("value = 1\n")
    (package / "folder").mkdir()
    (package / "folder" / "__init__.py").write_text("")
    (package / "folder" / "lazy.py").write_text("from remine.used import value\n")
    assert imported_modules("remine.stage", tmp_path) == {
        "remine.stage",
        "remine.used",
        "remine.whole",
        "remine.folder.lazy",
    }


def test_a_name_from_a_package_counts_its_init(tmp_path):
    package = tmp_path / "remine"
    (package / "folder").mkdir(parents=True)
    (package / "stage.py").write_text("from remine.folder import value\n")
    (package / "folder" / "__init__.py").write_text("from remine.deep import value\n")
    (package / "deep.py").write_text("value = 1\n")
    assert imported_modules("remine.stage", tmp_path) == {
        "remine.stage",
        "remine.folder",
        "remine.deep",
    }


def test_all_stages_are_named_here():
    folder = ROOT / "remine" / "flows" / "stages"
    hashing = {p.stem for p in folder.glob("*.py") if "code_hash(__name__)" in p.read_text()}
    assert hashing - {"health"} == set(STAGES) - {"embed"}
