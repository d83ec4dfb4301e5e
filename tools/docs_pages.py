"""A hook of MkDocs: pages made from files of the repository, and from the code itself.

README, CONTRIBUTING, SECURITY, CHANGELOG and the examples become pages as they are. Configuration
and Commands get their text from the dataclasses and the command line, so that they cannot go stale.
Links work twice: as paths in the repository, and as pages in the site. A path of a source file that
a page names and that does not exist is a warning, which `--strict` makes an error.
"""

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files
from typer.main import get_command
from typer.testing import CliRunner

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

log = logging.getLogger("mkdocs.hooks.docs_pages")

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "benchmarks/README.md": "benchmark-scripts.md",
    "robustness/README.md": "torture-scripts.md",
}
EXAMPLES = ("from_photos_to_a_served_index.py", "mine_your_vectors.py", "read_triplets.py")
CONFIGS = ("glyphs.toml", "omniglot.toml")
FOLDERS = (
    *("data", "flows", "index", "mining", "train", "src"),
    *("tests", "tools", "examples", "benchmarks", "robustness"),
)
SOURCE_PATH = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w./]*)`")
SOURCE_NAME = re.compile(r"`(\w+\.py)`")
HISTORY = "changelog.md"  # names files of earlier versions


def on_files(files: Files, *, config: "MkDocsConfig") -> Files:
    """Add the generated pages."""
    text_by_page = {page: _to_site(ROOT / name) for name, page in PAGES.items()}
    text_by_page["examples.md"] = _examples()
    for page, text in text_by_page.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, *, page: "Page", **_: object) -> str:
    """Insert the text read from the code; turn paths of the repository into pages."""
    if page.file.src_uri != HISTORY:
        for path in _missing_sources(markdown):
            log.warning("%s names %s, which does not exist", page.file.src_uri, path)
    if page.file.src_uri == "configuration.md":
        markdown = markdown.replace("<!-- settings -->", _settings())
    if page.file.src_uri == "training.md":
        markdown = markdown.replace("<!-- recipes -->", _recipes())
    if page.file.src_uri == "commands.md":
        markdown = markdown.replace("<!-- commands -->", _commands())
    return _link_pages(markdown, "../")


def _recipes() -> str:
    """What settings at "auto" stand for, a row for each kind of encoder."""
    from remine.train.recipe import DESCRIPTIONS, RECIPES, TENTH

    rows = [
        "| trained is | steps | learning rate | warm-up | decay | clipped at | validated every |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, recipe in RECIPES.items():
        val_every = "tenth of a round" if recipe.val_every == TENTH else "never"
        values = [
            recipe.steps,
            f"{recipe.learning_rate:g}, {recipe.schedule}",
            f"{recipe.warmup:.0%}" if recipe.warmup else "none",
            recipe.weight_decay or "none",
            recipe.clip_norm or "none",
            val_every,
        ]
        rows.append(f"| {DESCRIPTIONS[kind]} | {' | '.join(map(str, values))} |")
    return "\n".join(rows)


def _missing_sources(markdown: str) -> list[str]:
    """The paths and the bare names of source files in `markdown` that do not exist."""
    paths = [path for path in SOURCE_PATH.findall(markdown) if not (ROOT / path).exists()]
    names = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    return paths + sorted(set(SOURCE_NAME.findall(markdown)) - names)


def _to_site(path: Path) -> str:
    """A file of the repository with links as the site has them."""
    folder = path.parent.relative_to(ROOT)
    up = "../" * len(folder.parts)
    text = path.read_text()
    return _link_pages(text, up).replace(f"]({up}docs/", "](")


def _link_pages(text: str, up: str) -> str:
    """`text` with links to files of the repository, `up` to its root, turned to pages."""
    for name, page in PAGES.items():
        text = text.replace(f"]({up}{name})", f"]({page})").replace(f"]({up}{name}#", f"]({page}#")
    return re.sub(rf"\]\({re.escape(up)}examples(/[a-z_.]*)?\)", "](examples.md)", text)


def _examples() -> str:
    """The text of the examples, each under its name."""
    head = (
        "# Examples\n\nThe files in `examples/`. The scripts run as they are (the tests run them),"
        " and as notebooks in editors that know the marks `# %%`.\n"
    )
    parts = [
        f"## {name}\n\n```{language}\n{(ROOT / 'examples' / name).read_text()}```\n"
        for language, names in (("python", EXAMPLES), ("toml", CONFIGS))
        for name in names
    ]
    return "\n".join([head, *parts])


def _settings() -> str:
    """Each table of the config with its explanation and its settings at their defaults."""
    from remine.flows.config.template import config_text

    parts: list[str] = []
    for block in re.split(r"\n(?=\[)", config_text())[1:]:
        heading, _, body = block.partition("\n")
        parts.append(f"## {heading}\n\n```toml\n{heading}\n{body.strip()}\n```\n")
    return "\n".join(parts)


def _commands() -> str:
    """What `--help` says of each command."""
    from remine.flows.cli.main import app

    runner = CliRunner()
    names: list[tuple[str, ...]] = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        names += [(name, inner) for inner in below] if below else [(name,)]
    parts: list[str] = []
    for name in names:
        result = runner.invoke(app, [*name, "--help"], prog_name="remine", terminal_width=90)
        parts.append(f"## remine {' '.join(name)}\n\n```text\n{result.stdout.strip()}\n```\n")
    return "\n".join(parts)
