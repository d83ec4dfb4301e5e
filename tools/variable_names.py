"""Count variable names that say nothing: participles without a noun, and vague words.

    python tools/variable_names.py [--list] FOLDER...

A variable's name should be a noun for what it holds: `rows_read` rather than `read`, `catalogue`
rather than `found`. This counts, over every binding of a variable or parameter in a scope, names
that are a bare participle or a vague word, and fails above LIMIT.
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

LIMIT = 0.01
"""Largest share of names that may be vague."""

VAGUE = frozenset(
    """
    again all_ already apart asked away begun beyond both bought broken brought built caught chosen
    done drawn driven each eaten enough ever every_ fallen far felt few forgotten found given gone
    got grown had heard held here hidden how info kept known laid led left lent less lost made many
    meant meet met misc more most much near nearly never obj once other others own paid put read_in
    res rest ret retval risen said same seen sent set_ shown sold some spoken still stolen stuff
    such taken that_ them there thing things this_ thought thrown told torn twice understood well
    what whatever when where which who whole whose why within won worn woven written yet
    """.split()  # noqa: SIM905 - a list of 130 strings would take a page
)
"""Words that name nothing: participles of irregular verbs, pronouns, adverbs, fillers."""

PARTICIPLE = "ed"
NOUNS = frozenset({"bed", "breed", "embed", "expected", "feed", "need", "seed", "shed", "speed"})
"""Words that end like a participle and are none; and what tests call the right answer."""


def is_vague(name: str) -> bool:
    """Whether a name, without leading underscores, is one vague word or a bare participle."""
    word = name.strip("_").lower()
    if "_" in word or not word:
        return False
    return word in VAGUE or (word.endswith(PARTICIPLE) and word not in NOUNS)


def bindings(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield (name, line) once for each variable or parameter of each scope."""
    scopes: list[ast.AST] = [tree]
    while scopes:
        scope = scopes.pop()
        seen: set[str] = set()
        for node in _own_nodes(scope, scopes):
            if isinstance(node, ast.arg):
                name, line = node.arg, node.lineno
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                name, line = node.id, node.lineno
            else:
                continue
            if name not in seen:
                seen.add(name)
                yield name, line


def _own_nodes(scope: ast.AST, inner: list[ast.AST]) -> Iterator[ast.AST]:
    """Yield the nodes of a scope; scopes inside it are put into `inner` instead."""
    pending = list(ast.iter_child_nodes(scope))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            inner.append(node)
            continue
        yield node
        pending.extend(ast.iter_child_nodes(node))


def main(arguments: list[str]) -> int:
    """Print the share of vague names in the folders; the exit code says whether it is too large."""
    folders = [Path(argument) for argument in arguments if argument != "--list"]
    total, vague, words = 0, [], Counter[str]()
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        for name, line in bindings(ast.parse(path.read_text())):
            total += 1
            if is_vague(name):
                vague.append(f"{path}:{line} {name}")
                words[name.strip("_")] += 1
    if "--list" in arguments:
        print("\n".join(vague))
    share = len(vague) / max(total, 1)
    common = ", ".join(f"{word} {count}" for word, count in words.most_common(12))
    print(f"{len(vague)} of {total} variable names are vague: {share:.2%}, limit {LIMIT:.0%}")
    print(f"most common: {common}")
    return int(share > LIMIT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
