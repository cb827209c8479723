"""Counts the code of a package: python -m benchmarks.code_size [FOLDER, by default jaxcifar].

Lines of code are not blank, a comment or a docstring (a string that stands alone, also beneath a field);
count after `ruff format`. The widest signature has the most parameters, without `self`; the widest class has
the most fields.
"""

import ast
import sys
import tokenize
from pathlib import Path


def line_kinds(path: Path) -> tuple[set[int], set[int]]:
    """Return the numbers of the lines of code, and of those of docstrings."""
    with tokenize.open(path) as file:
        tokens = list(tokenize.generate_tokens(file.readline))
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER)
    skipped += (tokenize.INDENT, tokenize.DEDENT)
    code = {
        line
        for token in tokens
        if token.type not in skipped
        for line in range(token.start[0], token.end[0] + 1)
    }
    docstrings = {
        line
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, node.end_lineno + 1)
    }
    return code - docstrings, docstrings


def widths(path: Path) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Return the number of parameters of each function, and of fields of each class, with their names."""
    functions, classes = [], []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            names = [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]
            functions.append((len(names), f"{path}:{node.name}"))
        elif isinstance(node, ast.ClassDef):
            fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
            classes.append((len(fields), f"{path}:{node.name}"))
    return functions, classes


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "jaxcifar")
    files = sorted(folder.rglob("*.py"))
    kinds = {path: line_kinds(path) for path in files}
    whole = {path: len(path.read_text().splitlines()) for path in files}
    functions = [item for path in files for item in widths(path)[0]]
    classes = [item for path in files for item in widths(path)[1]]
    largest = max(files, key=whole.get)
    print(f"modules: {len(files)}")
    print(f"lines of code: {sum(len(code) for code, _ in kinds.values()):,}")
    print(f"lines of docstrings: {sum(len(lines) for _, lines in kinds.values()):,}")
    print(f"largest file: {largest}, {whole[largest]} lines, {len(kinds[largest][0])} of code")
    print("widest signatures:", *(f"{name} ({n})" for n, name in sorted(functions)[:-6:-1]))
    print("widest classes:", *(f"{name} ({n})" for n, name in sorted(classes)[:-4:-1]))


if __name__ == "__main__":
    main()
