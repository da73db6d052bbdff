"""Stage 00: raw data."""

from pathlib import Path

from radstack.core.artifact import manifest_of
from radstack.core.errors import Refused, UserError
from radstack.core.files import read_json, write_json, writing
from radstack.core.lock import working_on
from radstack.core.recipe import digest
from radstack.core.say import say
from radstack.recipes.competition import Phantoms
from radstack.running.context import Context


def get_demo(context: Context, size: int) -> None:
    """Draw the phantoms, unless as many by the same settings are there already; a killed run goes on where it was."""
    competition = context.competition
    if not competition.phantoms and context.options.all_stages:
        print(f"  your own data belong into {context.paths.input}; nothing is drawn")
        return
    if not competition.phantoms:
        needed = f"({competition.data.disk / 1e9:,.0f} GB on disk)"
        archive = (f", --kaggle fetches the archive of {competition.data.kaggle} {needed}" if competition.data.kaggle else
                   f"; your own belong into {context.paths.input}")
        raise UserError(f"say which data: --demo draws phantoms{archive}")
    folder, size = context.paths.input, size or competition.phantoms.size
    if _is_drawn(competition.phantoms, folder, size):
        print(f"  kept {folder}: {size} series")
    elif context.options.dry_run:
        print(f"  would draw {size} series into {folder}")
    else:
        _draw(competition.phantoms, folder, size, context.options.workers)


def _is_drawn(phantoms: Phantoms, folder: Path, size: int) -> bool:
    done = manifest_of(folder)
    return folder.exists() and done.exists() and read_json(done) == _facts(phantoms, size)


def _facts(phantoms: Phantoms, size: int) -> dict[str, int | str]:
    """What is drawn: how many, and a digest of what draws them and its settings."""
    return {"series": size, "drawn": digest(phantoms.draw)}


def _draw(phantoms: Phantoms, folder: Path, size: int, workers: int) -> None:
    with working_on(folder) as waited:
        if waited and _is_drawn(phantoms, folder, size):
            print(f"  kept {folder}: that run has drawn it")
            return
        before = manifest_of(folder)
        known = read_json(before) if before.exists() else None
        before.unlink(missing_ok=True)
        try:
            with writing(folder):  # who writes a new competition's phantoms need not know how disks fail
                phantoms.draw(folder, series=size, workers=workers)
        except Refused:  # such as of phantoms by other settings, which are still there whole
            if known:
                write_json(before, known)
            raise
        write_json(manifest_of(folder), _facts(phantoms, size))


def get_kaggle(context: Context) -> None:
    """Download and unpack the organizer's archive; resumable."""
    from radstack.submission.kaggle import download

    competition, folder = context.competition, context.paths.input
    if not competition.data.kaggle:
        raise UserError(f"the data of {competition.name} are not at Kaggle: put them into {folder} yourself "
                        "(docs/add_your_own.md), or draw phantoms with --demo")
    if context.options.dry_run:
        print(f"  would download {competition.data.kaggle} into {folder}")
        return
    with working_on(folder):
        download(competition.data.kaggle, folder, report=say, needed_bytes=competition.data.disk)
