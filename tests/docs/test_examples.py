"""What the documentation tells people to type works as it is."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from tests.server import JFK, Server

from qasr.domain.audio import Segment
from qasr.domain.options import Hints
from qasr.engines.base import Request

ROOT: Final = Path(__file__).parents[2]
EXAMPLES: Final = sorted((ROOT / "examples").glob("*.*"))
GIVEN: Final = "recording, server"
"""The one line that differs: the README has the values, an example has arguments."""


def blocks(page: Path) -> list[str]:
    """Python in *page*."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def core(source: str) -> list[str]:
    """Statements of *source* without its docstring, its ``import sys``, and the line that says what is given."""
    statements = [ast.unparse(node) for node in ast.parse(source).body]
    if ast.get_docstring(ast.parse(source)) is not None:
        del statements[0]
    given = [line for line in statements if line.removeprefix("(").startswith(GIVEN)]

    assert 1 == len(given)
    return [line for line in statements if line not in (*given, "import sys")]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example_prints_what_is_said(server: Server, example: Path, references: dict[str, str]) -> None:
    """Each official SDK, and none at all, against the server as it starts by default."""
    shell = "sh" if example.suffix == ".sh" else sys.executable
    done = subprocess.run(
        [shell, str(example), str(JFK), server.base], capture_output=True, text=True, timeout=120, check=False
    )
    said = set(re.findall(r"[a-z]+", references[JFK.name].lower()))

    assert 0 == done.returncode, done.stderr
    assert said == set(re.findall(r"[a-z]+", done.stdout.lower()))


@pytest.mark.parametrize("number", range(len(blocks(ROOT / "README.md"))))
def test_readme_shows_the_examples(number: int) -> None:
    """Python in the README is that of an example, which is run above."""
    shown = core(blocks(ROOT / "README.md")[number])

    assert shown in [core(path.read_text(encoding="utf-8")) for path in EXAMPLES if path.suffix == ".py"]


def test_readme_shows_the_text_that_comes_back(server: Server) -> None:
    """The text below the first example is what the server says."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"^```\n(And so .*)\n```", text, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "openai_transcriptions.py"), str(JFK), server.base],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    assert shown is not None
    assert shown[1] == done.stdout.strip()


@pytest.mark.anyio
async def test_engine_of_the_manual_hears() -> None:
    """The engine that docs/engines.md shows can be pasted: it loads and answers."""
    import numpy as np  # noqa: PLC0415

    names: dict[str, object] = {}
    exec(blocks(ROOT / "docs" / "engines.md")[0], names)
    factory = names["factory"]

    assert callable(factory)
    async with factory({}) as engine:
        segment = Segment(pcm=np.zeros(16_000, np.float32), begin_ms=0)
        heard = await engine.recognize([Request(segment=segment, hints=Hints(language="en"))])

    assert ["HEY!"] == [hypothesis.text for hypothesis in heard]
