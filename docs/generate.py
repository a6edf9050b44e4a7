"""Fills the generated parts of the documentation: ``make docs``.

A page holds marks, and what stands between two of them comes from the code or from ``compat.toml``::

    <!-- generated: settings -->
    ...
    <!-- end: settings -->

``tests/docs/test_generated.py`` fails when a page is not what this file would write.
"""
# ruff: noqa: INP001 - pages and their generator, no package

import ast
import inspect
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeAlias, get_args, get_origin

import msgspec
from annotated_types import Ge, Gt, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from qasr import catalogue, config
from qasr.catalogue import checkpoints
from qasr.domain import errors as tree
from qasr.domain.task import Failure
from qasr.faces.dashscope import errors as dashscope
from qasr.faces.dashscope import inference_dialogue, tasks, uploads
from qasr.faces.onemin import errors as onemin
from qasr.faces.openai import errors as openai
from qasr.metrics import FAMILIES

DOCS: Final = Path(__file__).parent
ROOT: Final = DOCS.parent
STATES: Final = ("served", "refused", "no effect", "not yet")

Table: TypeAlias = Sequence[Sequence[str]]
"""The first row is the head."""

NOT_IN_SOURCE: Final[Mapping[str, str]] = {
    "server.host": "Address to listen on. Others than this machine's own need a key.",
    "server.port": "Port; 0 takes a free one.",
    "auth.keys": "Keys that open all interfaces, besides those of the database ([keys.md](keys.md)). "
    "Neither: any key will do.",
    "fetch.allow_hosts": "Names that may be read wherever they lead: `host`, or `*.domain` for all below it.",
    "fetch.allow_networks": "Private ranges that may be read, such as `10.1.0.0/16`.",
    "fetch.connect_timeout_s": "For name and connection, and once more for TLS.",
    "fetch.total_timeout_s": "For the whole download, redirects included; of a task's recording it may take 6 hours.",
    "fetch.idle_timeout_s": "Between two pieces of the answer.",
    "fetch.max_redirects": "Redirects that are followed; each is judged like the first address.",
    "store.url": "The base of an object store; none: `objects` under the data directory.",
    "scripted.latency_ms": "How long each call takes.",
    "scripted.text": "Text of every segment; empty: made from the segment's times.",
    "scripted.slots": "Calls that run at once.",
    "log.level": "`debug`, `info`, `warning`, `error` or `critical`.",
    "log.json_lines": "One JSON object per line instead of text for people.",
}
"""Words for settings that have none in ``config.py``."""


def pages() -> Iterator[tuple[Path, str]]:
    """Every page with its text as it should be."""
    for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md"))):
        yield path, filled(path.read_text(encoding="utf-8"))


def filled(text: str) -> str:
    """*text* with all its generated parts made anew."""

    def block(mark: re.Match[str]) -> str:
        name = mark["name"]
        return f"<!-- generated: {name} -->\n\n{BLOCKS[name]()}\n<!-- end: {name} -->"

    pattern = r"<!-- generated: (?P<name>[a-z-]+) -->\n.*?<!-- end: (?P=name) -->"
    return re.sub(pattern, block, text, flags=re.DOTALL)


def table(rows: Table) -> str:
    """Markdown."""
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *body]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


# ---- settings


def settings() -> str:
    """One table per section of the settings, with the words of their docstrings."""
    words = documented(config)
    return "\n".join(_sections(config.Settings, "", words))


def documented(module: object) -> dict[tuple[str, str], str]:
    """Docstrings of attributes, by class and attribute: the text that follows an assignment."""
    found: dict[tuple[str, str], str] = {}
    for node in ast.walk(ast.parse(inspect.getsource(module))):  # type: ignore[arg-type]
        if not isinstance(node, ast.ClassDef):
            continue
        for assignment, text in zip(node.body, node.body[1:], strict=False):
            match assignment, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                    found[node.name, name] = " ".join(words.split())
    return found


def leaves(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel], str, FieldInfo]]:
    """Each setting: its path, the class that declares it, its name there, and what is known about it."""
    for name, info in section.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from leaves(info.annotation, f"{prefix}{name}.")
        else:
            holder = next(kind for kind in section.__mro__ if name in vars(kind).get("__annotations__", {}))
            yield prefix + name, holder, name, info


def _sections(section: type[BaseModel], prefix: str, words: Mapping[tuple[str, str], str]) -> Iterator[str]:
    rows = [["setting", "variable", "value", "default", "what it is"]]
    for path, holder, name, info in leaves(section, prefix):
        if "." not in path.removeprefix(prefix):
            text = words.get((holder.__name__, name)) or NOT_IN_SOURCE[path]
            variable = "QASR_" + path.replace(".", "__").upper()
            rows.append(
                [
                    f"`{path}`",
                    f"`{variable}`",
                    _kind(info),
                    _default(info.get_default(call_default_factory=True)),
                    _code(text),
                ]
            )
    title = f"## `[{prefix.rstrip('.')}]`\n\n{section.__doc__}" if prefix else "## At the head of the file"
    yield f"{title}\n\n{table(rows)}"
    for name, info in section.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _sections(info.annotation, f"{prefix}{name}.", words)


def _code(text: str) -> str:
    """Docstrings have double backticks."""
    return text.replace("``", "`")


_NAMES: Final[Mapping[object, str]] = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "`true` or `false`",
    tuple: "list",
    dict: "table",
}


def _kind(info: FieldInfo) -> str:
    kind = info.annotation
    options = [arg for arg in get_args(kind) if arg is not NoneType]
    if get_origin(kind) is UnionType and len(options) == 1:
        kind = options[0]
    if get_origin(kind) is Literal:
        text = ", ".join(f"`{option}`" for option in options)
    else:
        text = _NAMES.get(get_origin(kind)) or _NAMES.get(kind, "path" if kind is Path else str(kind))
    bounds = []
    for rule in info.metadata:
        match rule:
            case Ge(ge=least):
                bounds.append(f"≥ {least}")
            case Gt(gt=least):
                bounds.append(f"> {least}")
            case Le(le=most):
                bounds.append(f"≤ {most}")
    return ", ".join([text, *bounds])


def _default(value: object) -> str:
    if value in (None, "", (), {}):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


# ---- errors


def kinds(root: type[tree.QasrError] = tree.QasrError) -> Iterator[type[tree.QasrError]]:
    """All errors of the tree that are raised as themselves: those at its ends, and those that mean something."""
    for kind in root.__subclasses__():
        if kind in (tree.InvalidParameter, tree.FetchFailed, tree.RateLimited) or not kind.__subclasses__():
            yield kind
        yield from kinds(kind)


def _meaning(kind: type[tree.QasrError]) -> str:
    return (inspect.getdoc(kind) or "").split("\n", 1)[0].split(";")[0].rstrip(".")


def errors_openai() -> str:
    """The compatible dialect."""
    rows = [["what happened", "our name", "status", "`code`", "`type`"]]
    for kind in kinds():
        status, body = openai.failure(kind("why"), "")
        audio, _ = openai.to_audio_wire(kind("why"), "")
        shown = str(status) if audio == status else f"{status} (`audio/*`: {audio})"
        rows.append([_meaning(kind), f"`{kind.__name__}`", shown, f"`{body.error.code}`", f"`{body.error.type}`"])
    return table(rows)


def errors_dashscope() -> str:
    """The native dialect, Qwen and Fun."""
    rows = [["what happened", "our name", "status", "`code`", "`code` of Fun-ASR-Flash, where it differs"]]
    for kind in kinds():
        status, body = dashscope.to_wire(kind("why"), "")
        code = msgspec.json.decode(body)["code"]
        other = msgspec.json.decode(dashscope.to_fun_wire(kind("why"), "")[1])["code"]
        rows.append(
            [_meaning(kind), f"`{kind.__name__}`", str(status), f"`{code}`", "" if other == code else f"`{other}`"]
        )
    return table(rows)


def errors_onemin() -> str:
    """1min.ai: statuses alone."""
    rows = [["what happened", "our name", "status", "`error`"]]
    for kind in kinds():
        status, body = onemin.to_wire(kind("why"), "")
        rows.append([_meaning(kind), f"`{kind.__name__}`", str(status), f"`{msgspec.json.decode(body)['error']}`"])
    return table(rows)


def errors_uploads() -> str:
    """The form that takes files answers in XML."""
    shapes: dict[tuple[int, str], list[str]] = {}
    for kind in kinds():
        status, body = uploads.to_wire(kind("why"), "")
        code = re.search(r"<Code>(.*)</Code>", body.decode())
        assert code is not None
        shapes.setdefault((status, code[1]), []).append(f"`{kind.__name__}`")
    rows = [["status", "`Code`", "our names"]]
    rows += [[str(status), f"`{code}`", ", ".join(names)] for (status, code), names in shapes.items()]
    return table(rows)


def errors_tasks() -> str:
    """Codes of tasks and recordings, by what failed."""
    cases = [(kind, Failure(kind=kind.__name__, message=""), 0, "") for kind in kinds(tree.QasrError)]
    for status, when in ((403, "with 403"), (404, "with 404"), (500, "with 5xx")):
        cases.append((tree.FetchStatus, Failure(kind="FetchStatus", message="", status=status), 0, when))
    cases.append((tree.NoSpeech, Failure(kind="NoSpeech", message=""), 1, "in sounds taken for speech"))
    rows = [["`code`", "what happened"]]
    codes: dict[str, list[str]] = {}
    for kind, failure, speech_ms, when in cases:
        if kind not in ASKED_BEFORE:
            words = f"{_meaning(kind)}{', ' + when if when else ''} (`{kind.__name__}`)"
            codes.setdefault(tasks.failure_code(failure, speech_ms=speech_ms), []).append(words)
    rows += [[f"`{code}`", "; ".join(causes)] for code, causes in codes.items()]
    return table(rows)


def errors_live() -> str:
    """Codes of the task protocol, by what failed."""
    codes: dict[str, list[str]] = {}
    for kind in kinds():
        if not issubclass(kind, NOT_LIVE):
            codes.setdefault(inference_dialogue.to_code(kind("why")), []).append(
                f"{_meaning(kind)} (`{kind.__name__}`)"
            )
    codes["UNSUPPORTED_FORMAT"].append("`format` names none that is taken")
    return table([["`error_code`", "what happened"], *([f"`{code}`", "; ".join(why)] for code, why in codes.items())])


ASKED_BEFORE: Final = frozenset(
    {
        tree.UnsupportedOption,
        tree.UnknownModel,
        tree.ModelNotServed,
        tree.Unauthorized,
        tree.AccessDenied,
        tree.WrongState,
        tree.RateLimited,
        tree.BurstLimited,
        tree.QuotaExceeded,
    }
)
"""Errors of submissions; no recording fails by them."""

NOT_LIVE: Final = (
    tree.AccessDenied,
    tree.FetchFailed,
    tree.NotFound,
    tree.TooLarge,
    tree.Unauthorized,
    tree.WrongState,
)
"""No live task fails by them."""


# ---- compatibility


def interfaces() -> list[dict[str, Any]]:
    """``compat.toml``."""
    found: list[dict[str, Any]] = tomllib.loads((DOCS / "compat.toml").read_text(encoding="utf-8"))["interface"]
    return found


def compat_short() -> str:
    """One row per interface."""
    rows = [["interface", "where", "state"]]
    rows += [[each["name"], each["where"], f"**{each['state']}**" if each["state"] == "served" else each["state"]]
             for each in interfaces()]  # fmt: skip
    return table(rows)


def compat() -> str:
    """One table per interface, one row per ability."""
    return "\n".join(_interface(each) for each in interfaces())


def _interface(each: Mapping[str, Any]) -> str:
    text = f"## {each['name']}\n\n{each['where']} — {each['state']}.\n"
    if not each.get("ability"):
        return text
    rows = [["ability", "state", "what becomes of it", "shown by"]]
    rows += [
        [one["name"], one["state"], one.get("note", ""), ", ".join(f"`{test}`" for test in one.get("tests", ()))]
        for one in each["ability"]
    ]
    return f"{text}\n{table(rows)}"


_KINDS: Final[Mapping[str, str]] = {
    "qwen-sync": "chat completions, DashScope generation (Qwen), audio transcriptions, 1min.ai",
    "fun-sync": "chat completions, DashScope generation (Fun), audio transcriptions, 1min.ai",
    "openai-audio": "audio transcriptions, OpenAI realtime, chat completions, DashScope generation (Qwen), 1min.ai",
    "qwen-file": "DashScope file tasks (`result`), audio transcriptions",
    "fun-file": "DashScope file tasks (`results`), audio transcriptions",
    "realtime": "realtime events, OpenAI realtime",
    "openai-live": "OpenAI realtime",
    "fun-live": "live tasks (`sentence`), OpenAI realtime",
    "gummy-live": "live tasks (`transcription`), OpenAI realtime",
}


def models() -> str:
    """The catalogue."""
    rows = [["model", "also called", "served by", "longest recording", "largest recording", "inside the request"]]
    for model in catalogue.built_in().models:
        limits = model.limits
        inline = "—" if model.inline_bytes == limits.max_bytes else _size(model.inline_bytes)
        rows.append(
            [
                f"`{model.name}`",
                ", ".join(f"`{alias}`" for alias in model.aliases),
                _KINDS[model.kind],
                f"{limits.max_ms // 1000} s" if limits.max_ms else "—",
                _size(limits.max_bytes) if limits.max_bytes else "—",
                inline if limits.max_bytes else "—",
            ]
        )
    return table(rows)


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1024**3:g} GiB" if n_bytes >= 1024**3 else f"{n_bytes / 1024**2:g} MiB"


def checkpoint_table() -> str:
    """What can be installed."""
    rows = [["checkpoint", "engine", "from", "size", "licence", "gives"]]
    for one in checkpoints.built_in().all:
        hubs = (("Hugging Face", one.hugging_face), ("ModelScope", one.modelscope))
        found = [f"{hub} `{repository}`" for hub, repository in hubs if repository]
        size = "?" if one.size_mb is None else f"{one.size_mb} MB"
        gives = ", ".join(f"`{ability}`" for ability in sorted(one.gives))
        source = "; ".join(found) or f"[by hand]({one.page})"
        rows.append([f"`{one.name}`", f"`{one.engine}`", source, size, one.license, gives])
    return table(rows)


def metrics() -> str:
    """What ``/metrics`` tells."""
    rows = [["metric", "kind", "labels", "what it is"]]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels) or "—"
        rows.append([f"`{family.name}`", family.kind, labels, family.meaning])
    return table(rows)


BLOCKS: Final[Mapping[str, Callable[[], str]]] = {
    "settings": settings,
    "errors-openai": errors_openai,
    "errors-dashscope": errors_dashscope,
    "errors-onemin": errors_onemin,
    "errors-uploads": errors_uploads,
    "errors-tasks": errors_tasks,
    "errors-live": errors_live,
    "interfaces": compat_short,
    "compat": compat,
    "models": models,
    "checkpoints": checkpoint_table,
    "metrics": metrics,
}


def main() -> None:
    """Write every page that is not as it should be."""
    for path, text in list(pages()):
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"written: {path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
