# SPDX-License-Identifier: Apache-2.0
"""What lint asks of docs/checklist.md: that what a row names is there, and that it says how it is.

A row is | id | what | how here | proof | state |. In "how here" stand, between backticks, names of the
public headers (cm_x, cm_x(), CM_X, cm_struct.member), options (--x) and commands (certmesh x). Proofs
are looked at by lint itself."""

import re

FILE = "docs/checklist.md"
ROW = re.compile(r"^\| (A\d+(?:\.\d+)?) \|")
CELL = re.compile(r"(?<!\\)\|")
QUOTED = re.compile(r"`([^`]*)`")
STATE = re.compile(r"works|partly: \S.*|retired: \S.*|not yet(: \S.*)?")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
FUNCTION = re.compile(r"\bCM_API\b[^;{]*?\b(\w+)\s*\(")
STRUCT = re.compile(r"^struct (\w+) \{\n(.*?)^\};", re.S | re.M)
# Names that stand for something that is no name: files, and places in the environment.
PLAIN = re.compile(r"\$\w+|~/[\w./]+")


class Names:
    """All that a row may name."""

    def __init__(self, root):
        headers = "".join(COMMENT.sub("", path.read_text(encoding="utf-8"))
                          for path in sorted((root / "lib/api/certmesh").glob("*.h")))
        self.functions = set(FUNCTION.findall(headers))
        self.words = set(re.findall(r"\w+", headers))
        self.words |= {"CM_" + name for name in re.findall(r"\bX\((\w+), \d+, ", headers)}
        self.members = {name: set(re.findall(r"\w+", body))
                        for name, body in STRUCT.findall(headers)}
        tables = "".join(path.read_text(encoding="utf-8")
                         for path in sorted((root / "cmd").glob("*.c")))
        self.options = set(re.findall(r'^\s*\{ "([\w-]+)", (?:0|\'.\'), \w', tables, re.M))
        self.commands = set(re.findall(r'^\s*\{ "([\w-]+)", CLI_\w+, cli_run_', tables, re.M))

    def missing(self, name):
        """What is wrong with @name; None if nothing."""
        if PLAIN.fullmatch(name):
            return None
        option = re.fullmatch(r"--([\w-]+)", name)
        if option:
            return None if option[1] in self.options else "there is no such option"
        command = re.fullmatch(r"certmesh ([\w-]+)", name)
        if command:
            return None if command[1] in self.commands else "there is no such command"
        function = re.fullmatch(r"(\w+)\(\)", name)
        if function:
            return None if function[1] in self.functions else "no public header declares it"
        member = re.fullmatch(r"(cm_\w+)\.(\w+)", name)
        if member:
            there = member[2] in self.members.get(member[1], ())
            return None if there else "no public struct has it"
        if re.fullmatch(r"(cm|CM)_\w+", name):
            return None if name in self.words else "it is in no public header"
        return "neither a name of the library, nor an option or a command"


def after(ident):
    """What the next row may be called."""
    if "." in ident:
        return {"A0." + str(int(ident.split(".")[1]) + 1), "A1"}
    return {"A" + str(int(ident[1:]) + 1)}


def check_row(found, line, ident, cells, names):
    if len(cells) != 5:
        found.add(FILE, line, "checklist", f"{ident} has {len(cells)} columns, not 5")
        return
    _, _, how, proof, state = cells
    if not STATE.fullmatch(state):
        found.add(FILE, line, "checklist", f"{ident}: '{state}' is no state, or says no reason")
    for name in QUOTED.findall(how):
        why = names.missing(name)
        if why is not None:
            found.add(FILE, line, "checklist", f"{ident}: {name}: {why}")
    if state.startswith(("works", "partly")) and "`tests/" not in proof:
        found.add(FILE, line, "checklist", f"{ident} has no proof")


def check(found, root):
    """Add to @found what is wrong with the table below @root, if there is one."""
    if not (root / FILE).is_file():
        return
    names = Names(root)
    expected = None
    for line, text in enumerate((root / FILE).read_text(encoding="utf-8").splitlines(), 1):
        match = ROW.match(text)
        if match is None:
            continue
        ident = match[1]
        if expected is not None and ident not in expected:
            found.add(FILE, line, "checklist", f"{ident} stands where {min(expected)} is expected")
        expected = after(ident)
        cells = [cell.strip() for cell in CELL.split(text)[1:-1]]
        check_row(found, line, ident, cells, names)
