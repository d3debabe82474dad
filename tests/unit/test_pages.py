"""What pages name is there: commands with their options, links, make's targets, drop reasons."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from netpolicy.capabilities import ENFORCEABLE, Capability
from netpolicy.drop_reasons import RATE_LIMITED, TLS_FAILED, drop_reason
from nodeagent.cli import main as nodeagent
from nodeagent.plan.enforceable import capabilities
from reconciler.cli import main as tidegate

PROJECT = Path(__file__).parents[2]
OPERATING = PROJECT / "docs" / "operating"
ABI = PROJECT / "bpf" / "abi.h"
PAGES = (
    PROJECT / "README.md",
    *sorted((PROJECT / "docs").glob("*.md")),
    *sorted(OPERATING.glob("*.md")),
    *sorted((PROJECT / "docs" / "diagnostics").glob("*.md")),
    PROJECT / "policy-repo-template" / "README.md",
    PROJECT / "policy-repo-template" / "tidegate.yaml",
    PROJECT / "charts" / "tidegate" / "templates" / "NOTES.txt",
)
PROJECT_PAGES = (
    *PROJECT.glob("*.md"),
    *(PROJECT / "docs").rglob("*.md"),
    *(PROJECT / "policy-repo-template").glob("*.md"),
    *PROJECT.glob("*/README.md"),
)
SOURCES = tuple(
    source
    for package in ("netpolicy", "nodeagent", "reconciler")
    for source in (PROJECT / package).rglob("*.py")
)
PROGRAMS: dict[str, click.Command] = {"tidegate": tidegate, "nodeagent": nodeagent}
NOT_OURS = re.compile(r"^(?:tidegate|nodeagent): |^nodeagent (?:ready |…)")
"""What a program prints; any command."""


def name(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def _blocks(text: str) -> Iterator[str]:
    """Lines of code, fenced or indented, with those that go on joined."""
    fenced = re.findall(r"^```\w*\n(.+?)^```", text, re.M | re.S)
    indented = re.findall(r"^    \S.*$", _outside_code(text), re.M)
    for block in (*fenced, *indented):
        yield from block.replace("\\\n", " ").splitlines()


def _inline(text: str) -> Iterator[str]:
    for found in re.findall(r"`([^`]+)`", _outside_code(text)):
        yield " ".join(found.split())


def _commands(line: str) -> Iterator[str]:
    """The command lines of our programs in a line of code, without what explains them."""
    for part in re.split(r" && |; ", line):
        found = re.match(
            r"^(?:\$ |- |crictl exec -it \w+ )?((?:tidegate|nodeagent) .+)$", part.strip()
        )
        if found is None or NOT_OURS.match(found[1]):
            continue
        command = re.split(r"\s+#|\s{2,}(?![-\[\s])|\s>", found[1])[0]
        first, *others = command.split(" | ")
        yield first
        stem = first.rsplit(" ", 1)[0]
        yield from (f"{stem} {other.strip()}" for other in others)


def _context(command: click.Command, path: str | None = None) -> click.Context:
    """As the programs make it: a command keeps the help option of the context that asks for it first."""
    return click.Context(command, info_name=path, help_option_names=["-h", "--help"])


def _fault(line: str, *, whole: bool) -> str | None:
    """What the program that a line begins with would say of the line."""
    words = shlex.split(re.sub(r"[\[\]]", "", line))
    command = PROGRAMS[words.pop(0)]
    while isinstance(command, click.Group):
        if not words or words[0].startswith("-"):
            return None if not whole or words else "no command"
        name = words.pop(0)
        found = command.get_command(_context(command), name)
        if found is None:
            return f"no command {name}"
        command = found
    context = _context(command)
    try:
        given, rest, _ = command.make_parser(context).parse_args(words)
    except click.UsageError as error:
        return error.format_message()
    if rest:
        return f"too many arguments: {rest}"
    for parameter in command.params:
        value = given.get(parameter.name or "")
        if whole and parameter.required and value is None:
            return f"{parameter.name} is missing"
        if isinstance(parameter.type, click.Choice) and isinstance(value, str):
            try:
                parameter.type.convert(value, parameter, context)
            except click.UsageError as error:
                return error.format_message()
    return None


def _outside_code(text: str) -> str:
    return re.sub(r"^```.+?^```", "", text, flags=re.M | re.S)


def _anchors(text: str) -> set[str]:
    """Of each heading what code hosts make of it."""
    shown = (
        re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        for heading in re.findall(r"^#+ (.+)$", _outside_code(text), re.M)
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in shown}


def test_commands_on_pages_are_commands() -> None:
    faults = {
        (name(page), line): fault
        for page in PAGES
        for lines, whole in ((_blocks(page.read_text()), True), (_inline(page.read_text()), False))
        for code in lines
        for line in _commands(code)
        if (fault := _fault(line, whole=whole))
    }
    assert not faults


def test_commands_that_texts_of_the_programs_name_are_commands() -> None:
    faults = {
        (name(source), line): fault
        for source in SOURCES
        for code in re.findall(r"`([^`\n{]+)`", source.read_text())
        for line in _commands(code)
        if (fault := _fault(line, whole=False))
    }
    assert not faults


def _leaves(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = _context(command)
    for sub in command.list_commands(context):
        found = command.get_command(context, sub)
        assert found is not None
        yield from _leaves(found, f"{path} {sub}")


def test_the_help_of_every_command_has_an_example_that_is_a_command() -> None:
    for program, main in PROGRAMS.items():
        for path, command in _leaves(main, program):
            shown = command.get_help(_context(command, path)).splitlines()
            examples = [one for line in shown for one in _commands(line) if line.startswith("    ")]
            assert any(one.startswith(path) for one in examples), path
            assert not [one for one in examples if _fault(one, whole=True)], path


def test_every_option_says_what_it_means() -> None:
    for program, main in PROGRAMS.items():
        for path, command in _leaves(main, program):
            options = (one for one in command.params if isinstance(one, click.Option))
            assert not [one.opts for one in options if not one.help], path


def test_links_lead_somewhere() -> None:
    texts = {page: page.read_text() for page in PROJECT_PAGES}
    dead = {
        (name(page), link)
        for page, text in texts.items()
        for link in re.findall(r"\]\(([^)\s:]+)\)", _outside_code(text))
        if not _leads_somewhere(page, link, texts)
    }
    assert not dead


def _leads_somewhere(page: Path, link: str, texts: dict[Path, str]) -> bool:
    file, _, anchor = link.partition("#")
    target = (page.parent / file).resolve() if file else page
    return target.exists() and (not anchor or anchor in _anchors(texts[target]))


def test_every_operating_page_is_two_clicks_from_the_readme() -> None:
    listed = (OPERATING / "README.md").read_text()
    assert "](docs/operating/README.md)" in (PROJECT / "README.md").read_text()
    assert {f"({page.name})" for page in OPERATING.glob("*.md")} - {"(README.md)"} <= set(
        re.findall(r"\([\w-]+\.md\)", listed)
    )


def test_make_targets_and_diagnostics_on_pages_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+)(?:-%)?:", (PROJECT / "Makefile").read_text(), re.M))
    codes = {page.stem for page in (PROJECT / "docs" / "diagnostics").glob("TG*.md")}
    for page in PAGES:
        text = page.read_text()
        named = {
            found
            for line in (*_blocks(text), *_inline(text))
            for found in re.findall(r"^make ([a-z-]+)", line)
        }
        assert named <= targets, page
        assert set(re.findall(r"\bTG\d{3}\b", text)) <= codes, page


def test_every_drop_reason_of_this_datapath_is_explained() -> None:
    page = (OPERATING / "datapath.md").read_text()
    told = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", page, re.M)
    numbers = set(map(int, re.findall(r"TG_DROP_\w+ = (\d{3})", ABI.read_text())))
    expected = numbers | {RATE_LIMITED, TLS_FAILED}
    assert sorted(told) == sorted((str(n), drop_reason(n).name) for n in expected)


def test_what_agents_can_enforce_is_what_the_page_says() -> None:
    page = (PROJECT / "docs" / "policy-language.md").read_text()
    rows = re.findall(r"^\| ((?:`[\w-]+`(?:, )?)+) \| (.+) \|$", page, re.M)[:4]
    always, proxy, secrets, never = (set(re.findall(r"`([\w-]+)`", words)) for words, _ in rows)
    assert always == capabilities(proxy=False, secrets=False)
    assert always | proxy == capabilities(proxy=True, secrets=False)
    assert always | proxy | secrets == capabilities(proxy=True, secrets=True)
    assert never == set(Capability) - ENFORCEABLE
