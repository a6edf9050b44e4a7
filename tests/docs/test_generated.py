"""The generated parts of the documentation are what the code says, and what they refer to exists."""

import ast
import re
from pathlib import Path
from typing import Final

import pytest

from docs import generate
from qasr import catalogue, config
from qasr.domain.errors import QasrError

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))
COMPATIBILITY: Final = [
    (each["name"], one) for each in generate.interfaces() for one in each.get("ability", ())
]  # fmt: skip


def functions(path: Path) -> set[str]:
    """Names of all test functions in *path*."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_pages_are_as_the_code_says() -> None:
    """Who changes a setting, an error or an ability runs ``make docs``."""
    stale = [path.name for path, text in generate.pages() if path.read_text(encoding="utf-8") != text]

    assert [] == stale


def test_every_generated_part_is_in_a_page() -> None:
    """Nothing is made for nobody, and marks are written properly."""
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    begins, ends = (re.findall(rf"<!-- {word}: ([a-z-]+) -->", text) for word in ("generated", "end"))

    assert begins == ends
    assert sorted(generate.BLOCKS) == sorted(begins)


def test_every_setting_is_explained_once() -> None:
    """Words stand in ``config.py``; those of ``generate.py`` are for settings that have none there."""
    words = generate.documented(config)
    settings = {path: (holder.__name__, name) for path, holder, name, _ in generate.leaves(config.Settings)}

    assert {path for path, _ in config.walk(config.Settings.model_construct())} == set(settings)
    assert set(generate.NOT_IN_SOURCE) == {path for path, where in settings.items() if where not in words}


@pytest.mark.parametrize("page", ["openai", "dashscope", "onemin"])
def test_every_error_has_a_row(page: str) -> None:
    """A reader of a face's page finds every error that can meet him."""
    text = (ROOT / "docs" / "faces" / f"{page}.md").read_text(encoding="utf-8")
    leaves = [kind for kind in generate.kinds() if issubclass(kind, QasrError) and not kind.__subclasses__()]

    assert [] == [kind.__name__ for kind in leaves if f"`{kind.__name__}`" not in text]


@pytest.mark.parametrize(("interface", "ability"), COMPATIBILITY, ids=lambda value: str(value)[:40])
def test_ability_names_tests_that_exist(interface: str, ability: dict[str, str | list[str]]) -> None:
    """What is claimed can be looked up."""
    assert ability["state"] in generate.STATES, interface
    assert ability.get("tests"), interface
    for test in ability.get("tests", ()):
        file, _, function = test.partition("::")

        assert (ROOT / file).is_file(), test
        assert not function or function in functions(ROOT / file), test


def test_every_model_is_listed() -> None:
    """The table of names is the catalogue."""
    text = (ROOT / "docs" / "compat.md").read_text(encoding="utf-8")

    assert [] == [model.name for model in catalogue.built_in().models if f"| `{model.name}` |" not in text]


def anchors(path: Path) -> set[str]:
    """What headings of *path* can be linked to."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Links within the repository name files and headings that exist."""
    for target in re.findall(r"\]\(([^)#]*(?:#[^)]*)?)\)", page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file) if file else page

        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target
