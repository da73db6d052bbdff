"""A demo held against recorded values, stage by stage: the first divergence says where to look."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radstack.commands.facts import Fact, Facts, reached
from radstack.commands.products import STAGES
from radstack.core.artifact import manifest_of, packages
from radstack.core.errors import UserError
from radstack.core.files import read_json, write_json
from radstack.running.context import Context


@dataclass(frozen=True)
class Line:
    """One value beside what was expected."""

    stage: str
    """``00`` .. ``08``."""
    name: str
    state: str
    """``ok``, ``differs`` or ``other bits``, which is no fault."""
    words: str
    """Reached and expected."""


def verify(context: Context, file: Path) -> None:
    """Compare what is there with the values of ``file`` for the same number of series, and print every line.

    Raises:
        UserError: something differs; the first divergence and those after it are named. Or nothing is recorded.
    """
    size = demo_size(context)
    known = read_json(file) if file.exists() else {}
    if size not in known:
        raise UserError(f"no expected values of {context.competition.name} with {size} series (known: "
                        f"{', '.join(known) or 'none'}); draw as many with {context.command(STAGES[0])} --demo-size N, or "
                        f"record these: {_record_command(context)}")
    lines = compare(known[size]["stages"], reached(context))
    for line in lines:
        print(f"stage {line.stage}  {line.state:10}  {line.name}: {line.words}")
    _say_packages(known[size]["packages"])
    differing = [line for line in lines if line.state == "differs"]
    if differing:
        raise UserError(_verdict(context, differing))
    print(f"{context.competition.title}: all {len(lines)} values of {size} series are as expected")


def record(context: Context, file: Path) -> None:
    """Write what is there into ``file`` as what is expected of this number of series; other numbers stay.

    Raises:
        UserError: a stage is not done.
    """
    size, facts = demo_size(context), reached(context)
    failures = [(stage, error) for stage, found in facts.items() for error in found.values() if isinstance(error, UserError)]
    if failures:
        raise UserError(f"nothing recorded: stage {failures[0][0]} is not done ({failures[0][1]})")
    known = read_json(file) if file.exists() else {}
    entry = {"packages": packages(), "stages": facts}
    write_json(file, dict(sorted({**known, size: entry}.items(), key=lambda item: int(item[0]))))
    print(f"recorded {sum(map(len, facts.values()))} values of {size} series in {file}")


def demo_size(context: Context) -> str:
    """The number of series that were drawn.

    Raises:
        UserError: not a whole demo as its recipes say, or nothing is drawn.
    """
    options, drawn = context.options, manifest_of(context.paths.input)
    if not context.competition.phantoms or options.limit or options.edits:
        raise UserError("only a whole demo has expected values: add --demo, leave --limit and --set away")
    if not drawn.exists():
        raise UserError(f"{context.paths.input} is not drawn; make it with: {context.command(STAGES[0])}")
    return str(read_json(drawn)["series"])


def compare(expected: dict[str, dict[str, list[Any]]], found: dict[str, Facts]) -> list[Line]:
    """Lines in the order of the stages; ``expected`` holds [value, tolerance] pairs. What a stage lacks is one line."""
    lines = []
    for stage in sorted(expected):
        facts, absent = found[stage], [name for name in expected[stage] if name not in found[stage]]
        lines += [_line(stage, name, pair, facts[name]) for name, pair in expected[stage].items() if name in facts]
        if absent:
            lines.append(Line(stage, _few(absent), "differs", str(facts.get("stage", "not there"))))
    return lines


def _line(stage: str, name: str, pair: list[Any], fact: Fact | UserError) -> Line:
    value, tolerance = pair
    if isinstance(fact, UserError):
        return Line(stage, name, "differs", f"{fact}")
    own = fact[0]
    if tolerance is None:
        return Line(stage, name, "ok", "the same") if own == value else Line(
            stage, name, "other bits", "close counts here: another CPU or library rounds otherwise")
    inside = abs(own - value) <= tolerance if tolerance else own == value
    margin = f" ± {tolerance:.4g}" if tolerance else ""
    shown = f"{own:.6g}" if isinstance(own, float) else own
    return Line(stage, name, "ok" if inside else "differs", f"{shown}, expected {value}{margin}")


def _verdict(context: Context, differing: list[Line]) -> str:
    """The first divergence, those of its stage, those after it, and what to do."""
    first = differing[0]
    same = [line.name for line in differing[1:] if line.stage == first.stage]
    after = [f"{line.stage} {line.name}" for line in differing if line.stage > first.stage]
    script = next(script for script in STAGES if script.startswith(first.stage))
    return (f"stage {first.stage} is the first to diverge: {first.name}: {first.words}"
            f"{f'; with it {_few(same)}' if same else ''}{f'; after it {_few(after)}' if after else ''}"
            f"; {context.command(script)} --dry-run says whether anything is stale")


def _few(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _record_command(context: Context) -> str:
    return f"{context.command('verify')} --record"


def _say_packages(recorded: dict[str, str]) -> None:
    here = packages()
    other = [f"{name} {version} (here {here.get(name, 'none')})" for name, version in recorded.items()
             if here.get(name) != version]
    if other:
        print(f"recorded with other packages: {', '.join(other)}")
