"""Reads the code blocks of a documentation page, runs them, and compares what they print.

Blocks of `python` and blocks of `sh` that start with `amtl ` are run in order, those of one page in
one namespace and one folder. A block of `text` right behind one is what it prints: its words are
exact, its numbers may move by 5 %, decimals by two units of the last place, whole numbers from 10
on by 1; `...` stands for anything. An HTML comment before a block changes that:
`<!-- not run: why -->`, or `<!-- fails -->` for a command that ends with an error.

    python tests/doc_pages.py docs/tutorials/campaign.md

writes into a page what its blocks print now, where that differs from what the page says. Pages that
go on where another ended are named behind it.
"""

import contextlib
import io
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from amtl_jax.cli import main
from amtl_jax.cpu_threads import calm_threads

_FENCE = re.compile(
    r"(?:^<!-- (?P<note>not run: [^>]+|fails) -->\n+)?"
    r"^```(?P<language>\w+)\n(?P<code>.*?)^```\n"
    r"(?:\n*^```text\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
_NUMBER = r"(?:(?<!\w)[-+−])?\d+(?:,\d{3})*(?:\.\d+)?"


class Block(NamedTuple):
    """One code block of a page.

    Attributes:
      language: behind the opening fence.
      code: what it holds.
      output: what it prints according to the page; None where the page does not say.
      note: of the comment before it, or "".
      line: where it starts on the page.
    """

    language: str
    code: str
    output: str | None
    note: str
    line: int

    @property
    def is_code(self) -> bool:
        return self.language in ("python", "sh")

    @property
    def runs(self) -> bool:
        is_ours = self.language == "python" or self.code.startswith("amtl ")
        return self.is_code and is_ours and not self.note.startswith("not run")


def blocks_of(page: Path) -> list[Block]:
    """The code blocks of a page in order."""
    text = page.read_text("utf-8")
    return [
        Block(
            language=match["language"],
            code=match["code"],
            output=match["output"],
            note=match["note"] or "",
            line=text.count("\n", 0, match.start()) + 1,
        )
        for match in _FENCE.finditer(text)
    ]


def run_block(block: Block, page: str, namespace: dict) -> str:
    """Runs one block in the present folder and returns what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        if block.language == "python":
            code = "\n" * block.line + block.code  # so that tracebacks name the line of the page
            exec(compile(code, page, "exec"), namespace)
        else:
            for command in commands_of(block):
                status = main(command)
                failed = status != 0
                assert failed == (block.note == "fails"), (
                    f"{page}:{block.line}: exit code {status}\n{printed.getvalue()}"
                )
    return printed.getvalue()


def commands_of(block: Block) -> list[list[str]]:
    """The words behind `amtl` of every command of a shell block."""
    lines = block.code.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines]
    assert all(words[0] == "amtl" for words in commands if words), block.code
    return [words[1:] for words in commands if words]


def difference(expected: str, printed: str) -> str | None:
    """Says how what was printed differs from the page; None where it does not."""
    wanted, got = _tokens(expected), _tokens(printed)
    place, furthest, skip, resume = (
        0,
        0,
        None,
        0,
    )  # `skip`: the last "..."; it has eaten up to resume
    index = 0
    while index < len(got):
        if place < len(wanted) and wanted[place] == "...":
            skip, resume, place = place, index, place + 1
        elif place < len(wanted) and _is_same(wanted[place], got[index]):
            place, index = place + 1, index + 1
        elif skip is not None:  # let it eat one more
            place, resume = skip + 1, resume + 1
            index = resume
        else:
            break
        furthest = max(furthest, place)
    if index == len(got) and all(token == "..." for token in wanted[place:]):
        return None
    where = " ".join(wanted[max(furthest - 5, 0) : furthest + 1])
    return f"other than the page near {where!r}. The page says:\n{expected}\nPrinted:\n{printed}"


def _tokens(text: str) -> list[str]:
    return re.findall(rf"\.\.\.|{_NUMBER}|[^\W\d]+|\S", text)


def rewrite(pages: list[Path]) -> None:
    """Runs pages, one after the other in one folder, and writes what they print into them."""
    namespace = {"__name__": "page"}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for page in pages:
            page.write_text(_rewritten(page, namespace), "utf-8")


def _rewritten(page: Path, namespace: dict) -> str:
    """The text of a page with what its blocks print, where the page says otherwise."""
    text = page.read_text("utf-8")
    for block in filter(lambda block: block.runs, blocks_of(page)):
        printed = run_block(block, page.name, namespace)
        if block.output is not None and difference(block.output, printed):
            fence = f"```{block.language}\n{block.code}```\n"
            start = text.index(fence) + len(fence)
            end = text.index("```\n", text.index("```text\n", start) + 8)
            text = f"{text[:start]}\n```text\n{printed.strip()}\n{text[end:]}"
            print(f"{page.name}:{block.line}\n{printed}")
    return text


def _is_same(wanted: str, got: str) -> bool:
    if not (re.fullmatch(_NUMBER, wanted) and re.fullmatch(_NUMBER, got)):
        return wanted == got
    wanted_value, got_value = (
        float(number.replace(",", "").replace("−", "-")) for number in (wanted, got)
    )
    decimals = len(wanted.partition(".")[2])
    least = 2.001 * 10**-decimals if decimals else float(abs(wanted_value) >= 10)
    tolerance = max(0.05 * abs(wanted_value), least)
    return abs(wanted_value - got_value) <= tolerance


if __name__ == "__main__":
    calm_threads()
    rewrite([Path(name).resolve() for name in sys.argv[1:]])
