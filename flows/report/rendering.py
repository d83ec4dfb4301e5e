"""HTML pages from the templates of this package."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def write_page(template: str, content: Mapping[str, Any], path: Path) -> Path:
    """Render a template into `path`, replacing it in one step; returns `path`.

    All values are escaped, except for those that the template itself marks as safe.
    """
    environment = Environment(
        loader=PackageLoader("remine.flows"), autoescape=True, undefined=StrictUndefined
    )
    temp = path.with_name(f".{path.name}")
    temp.write_text(environment.get_template(template).render(content))
    return temp.replace(path)
