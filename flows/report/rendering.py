"""HTML pages from the templates of this package."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, content: Mapping[str, Any]) -> str:
    """Fill in a template, such as "report.html.j2".

    All values are escaped, except for those that the template itself marks as safe.
    """
    environment = Environment(
        loader=PackageLoader("remine.flows"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template(template).render(content)


def write_page(template: str, content: Mapping[str, Any], path: Path) -> Path:
    """Render a template into `path`, replacing it in one step; returns `path`."""
    temp = path.with_name(f".{path.name}")
    temp.write_text(render(template, content))
    return temp.replace(path)
