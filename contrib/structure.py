#!/usr/bin/env python3
"""Checks the files of src/ and crates/: no import cycles, no file over 500 lines.

An import is a path that starts with `crate`, `super`, `self` or the name of a child
module. A name that a module re-exports counts as an import of the file that defines it.
Code under `#[cfg(test)]` may import anything.
"""

import pathlib
import re
import sys

MAX_LINES = 500
ROOT = pathlib.Path(__file__).resolve().parent.parent
IDENT = r"(?:r#)?[A-Za-z_][A-Za-z0-9_]*"


def code_of(text):
    """Returns code without tests, comments and literals."""
    cut = re.search(r"^#\[cfg\(test\)\]\n(pub(\(crate\))? )?mod \w+ \{", text, re.M)
    text = text[: cut.start()] if cut else text
    text = re.sub(r"^#\[cfg\(test\)\]\n(#\[.*\]\n)*(pub(\(.*\))? )?(mod|use) [^;]*;", "", text, flags=re.M)
    text = re.sub(r'//[^\n]*|r#*"(?:.|\n)*?"#*|"(?:\\.|[^"\\])*"', '""', text)
    return text


def expand(tree, prefix=()):
    """Returns the paths of a use tree such as `a::{b, c::d as e}`, with their aliases."""
    tree = tree.strip()
    if not tree:
        return []
    brace = tree.find("{")
    if brace < 0:
        path, _, alias = tree.partition(" as ")
        parts = prefix + tuple(p.strip() for p in path.split("::"))
        if parts[-1] == "self":
            parts = parts[:-1]
        return [(parts, alias.strip() or parts[-1])]
    head = tuple(p.strip() for p in tree[:brace].split("::") if p.strip())
    inner, depth, start, out = tree[brace + 1 : tree.rindex("}")], 0, 0, []
    for at, char in enumerate(inner + ","):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            out += expand(inner[start:at], prefix + head)
            start = at + 1
    return out


class Module:
    def __init__(self, file, code, parent):
        self.file, self.code, self.parent = file, code, parent
        self.children, self.exports, self.inline = {}, {}, set()


def load(file, parent=None):
    module = Module(file, code_of(file.read_text()), parent)
    folder = file.parent if file.name in ("lib.rs", "main.rs", "mod.rs") else file.with_suffix("")
    for name in re.findall(rf"^\s*(?:pub(?:\([a-z: ]+\))? )?mod ({IDENT});", module.code, re.M):
        for child in (folder / f"{name}.rs", folder / name / "mod.rs"):
            if child.exists():
                module.children[name] = load(child, module)
    for tree in re.findall(r"^pub(?:\([a-z: ]+\))? use ([^;]+);", module.code, re.M):
        for path, alias in expand(tree):
            module.exports[alias] = path
    return module


def resolve(module, path, root, seen=()):
    """Returns the module that defines `path` as written in `module`, if it is in this crate."""
    at, rest = module, list(path)
    first = rest[0]
    if first == "crate":
        at, rest = root, rest[1:]
    elif first in ("self", "super"):
        while rest and rest[0] in ("self", "super"):
            at = at.parent if rest.pop(0) == "super" else at
            if at is None:
                return None
    elif first not in module.children:
        return None
    while rest:
        name = rest.pop(0)
        if name in at.children:
            at = at.children[name]
        elif name in at.exports and (at, name) not in seen:
            found = resolve(at, at.exports[name] + tuple(rest), root, seen + ((at, name),))
            return found or at
        else:
            return at
    return at


def modules(module):
    yield module
    for child in module.children.values():
        yield from modules(child)


def imports(module, root):
    paths = [p for tree in re.findall(r"\buse ([^;]+);", module.code) for p, _ in expand(tree)]
    body = re.sub(r"\buse [^;]+;", "", module.code)
    names = "|".join(["crate", "super", "self", *map(re.escape, module.children)])
    for text in re.findall(rf"(?<![\w:.])((?:{names})(?:::{IDENT})+)", body):
        paths.append(tuple(text.split("::")))
    for path in paths:
        target = resolve(module, path, root)
        if target is not None and target is not module:
            yield target


def cycles(graph):
    """Returns the strongly connected components of more than one node (Tarjan)."""
    index, low, stack, on, out = {}, {}, [], set(), []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        on.add(node)
        for to in graph[node]:
            if to not in index:
                visit(to)
                low[node] = min(low[node], low[to])
            elif to in on:
                low[node] = min(low[node], index[to])
        if low[node] == index[node]:
            component = []
            while True:
                top = stack.pop()
                on.discard(top)
                component.append(top)
                if top == node:
                    break
            if len(component) > 1:
                out.append(component)

    for node in graph:
        if node not in index:
            visit(node)
    return out


def main():
    sys.setrecursionlimit(10_000)
    failed = False
    for base in [ROOT, *sorted((ROOT / "crates").iterdir())]:
        for file in sorted((base / "src").rglob("*.rs")):
            lines = file.read_text().count("\n")
            if lines > MAX_LINES:
                print(f"{file.relative_to(ROOT)}: {lines} lines, more than {MAX_LINES}")
                failed = True
        root = load(base / "src/lib.rs")
        graph = {m: set(imports(m, root)) for m in modules(root)}
        for component in cycles(graph):
            print("import cycle:")
            for m in sorted(component, key=lambda m: m.file):
                to = sorted(str(t.file.relative_to(ROOT)) for t in graph[m] if t in component)
                print(f"  {m.file.relative_to(ROOT)} imports {', '.join(to)}")
            failed = True
    return failed


if __name__ == "__main__":
    sys.exit(main())
