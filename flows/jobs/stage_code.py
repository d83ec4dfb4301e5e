"""The part of a stage's key that changes when the code that the stage runs changes.

A stage is recalled from the store when its key, a hash of all that its result depends on, is the
same. Our own code is part of that. What counts is what can change a result: the module of the stage
and every module of remine that it imports, directly or through others, as syntax trees. Comments,
docstrings and formatting do not count, nor do imports under `if TYPE_CHECKING`, which never run.
The `__init__` of a package counts if a name is taken from it. Another minor version of Python may
write the same tree differently, and then stages are done again.
Reports, commands and the server are imported by no stage, so that they never change a key.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = "remine"
ROOT = Path(__file__).parents[3]
"""The folder that `remine` is imported from; links are not resolved."""


def code_hash(module: str, root: Path = ROOT) -> str:
    """Hash of the code that importing a module of remine can run.

    Args:
        module: Dotted name, such as "remine.flows.stages.embed".
        root: Folder that holds the package.

    Returns:
        SHA-256 in hex over the names and the code of the module and of all that it imports of ours.

    """
    return _code_hash(module, root)


@cache
def _code_hash(module: str, root: Path) -> str:
    total = hashlib.sha256()
    for name in sorted(imported_modules(module, root)):
        code, _ = _code(_file_of(name, root).read_bytes())
        total.update(f"{name}\0{code}\0".encode())
    return total.hexdigest()


def imported_modules(module: str, root: Path = ROOT) -> set[str]:
    """The module and all modules of remine that it imports, directly or through others."""
    names, pending = set[str](), [module]
    while pending:
        name = pending.pop()
        if name not in names:
            names.add(name)
            _, imports = _code(_file_of(name, root).read_bytes())
            pending += [_target(parent, member, root) for parent, member in imports]
    return names


def _target(parent: str, member: str, root: Path) -> str:
    """The module that `from parent import member` runs: a submodule, or the parent itself."""
    submodule = f"{parent}.{member}"
    return submodule if member and _find(submodule, root) else parent


def _file_of(module: str, root: Path) -> Path:
    path = _find(module, root)
    if path is None:
        raise ModuleNotFoundError(f"{module} is not a module below {root}")
    return path


def _find(module: str, root: Path) -> Path | None:
    base = root.joinpath(*module.split("."))
    paths = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in paths if path.is_file()), None)


@cache
def _code(source: bytes) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Code without comments and docstrings, and what of ours it imports: (module, name) pairs."""
    tree = _Running().visit(ast.parse(source))
    return ast.unparse(tree), tuple(_imports(tree))


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and _is_ours(node.module):
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if _is_ours(alias.name))


def _is_ours(module: str | None) -> bool:
    # Relative imports are refused by the linter, so the name tells.
    return module is not None and module.split(".")[0] == PACKAGE


class _Running(ast.NodeTransformer):
    """Drops what does not run: docstrings, other bare strings, and blocks for the type checker."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(body := getattr(node, "body", None), list):
            # Statements of a lambda or a conditional expression are no lists and stay.
            node.body = [part for part in body if not _is_inert(part)] or [ast.Pass()]  # type: ignore[attr-defined]
        return node


def _is_inert(node: ast.AST) -> bool:
    """Whether a statement cannot change what the code does."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    # With an else branch, which runs, the statement stays as it is.
    return isinstance(node, ast.If) and not node.orelse and ast.unparse(node.test) in _NEVER_RUN


_NEVER_RUN = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
