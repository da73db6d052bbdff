"""Tables that leave a hospital without its ids: names made by a secret, which stays behind in a file of its own.

A pseudonym is the HMAC-SHA256 (RFC 2104) of a name under a random secret, cut to 64 bits. The secret is the first row of the
key file, so that the same command gives the same pseudonyms again, also after it was killed; delete the file for new ones.
"""

import hashlib
import hmac
import secrets
from pathlib import Path

import pandas as pd

from radstack.core.errors import UserError
from radstack.core.files import read_text_table, replacing, write_table
from radstack.recipes.submission import Layout
from radstack.submission.forms import ending_of

COLUMNS = ("kind", "original", "pseudonym")


class Pseudonyms:
    """Names and their pseudonyms; :meth:`write` keeps them."""

    def __init__(self, file: Path) -> None:
        """Read the secret of ``file``, or make one and write it there at once."""
        self.file, self.known = file, dict[tuple[str, str], str]()
        if file.exists():
            first = read_text_table(file, COLUMNS).head(1)
            if first["kind"].tolist() != ["secret"] or not first["pseudonym"].iloc[0]:
                raise UserError(f"{file} holds no key of pseudonyms; move it away, or name another OUT.csv")
            self.secret = first["pseudonym"].iloc[0]
        else:
            self.secret = secrets.token_hex(32)
            self.write()

    def of(self, kind: str, name: str) -> str:
        """The pseudonym of ``name``; blank stays blank."""
        if not name:
            return ""
        code = hmac.new(bytes.fromhex(self.secret), f"{kind}\0{name}".encode("utf-8", "surrogateescape"), hashlib.sha256)
        return self.known.setdefault((kind, name), code.hexdigest()[:16])

    def write(self) -> None:
        """Write the key file, which its owner alone may read."""
        rows = [("secret", "", self.secret), *((*key, value) for key, value in sorted(self.known.items()))]
        with replacing(self.file, private=True) as part:
            pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(part, index=False)


def under_pseudonyms(answers: Path, out: Path, index: pd.DataFrame, targets: tuple[str, ...], layout: Layout) -> Pseudonyms:
    """Copy ``answers`` and its quarantine as ``out`` and its quarantine, with pseudonyms; ``<out>_key.csv`` is the key.

    Ids, the columns of a row's name and paths become pseudonyms; the quarantine's details, which may hold any of these, go.
    The key also has each patient of ``index``.
    """
    names = Pseudonyms(out.with_name(f"{out.stem}_key.csv"))
    table = pd.read_csv(answers, dtype="str", keep_default_na=False)
    lost = pd.read_csv(answers.with_name(f"{answers.stem}_quarantine.csv"), dtype="str", keep_default_na=False)
    endings = targets if layout.form == "long" else ()
    for column in layout.id_columns:
        table[column] = [_renamed(names, column if "," in layout.id_column else "id", one, endings) for one in table[column]]
    lost["id"] = [_renamed(names, "id", one, endings) for one in lost["id"]]
    lost["path"] = [names.of("file", one) for one in lost["path"]]
    for patient in index["group"].astype("str").unique():
        names.of("patient", patient)
    names.write()  # first: a table without its key is of no use
    write_table(out, table)
    write_table(out.with_name(f"{out.stem}_quarantine.csv"), lost.assign(detail=""))
    return names


def shown_as(names: Pseudonyms, layout: Layout, column: str, value: str) -> str:
    """What a page calls a ``value`` of a ``column`` of the index: a submission's row as its table does."""
    if column == layout.row:
        kinds = layout.id_columns if "," in layout.id_column else ["id"]
        return "_".join(names.of(kind, part) for kind, part in zip(kinds, value.rsplit("_", len(kinds) - 1)))
    return names.of({"group": "patient"}.get(column, column), value)


def _renamed(names: Pseudonyms, kind: str, name: str, endings: tuple[str, ...]) -> str:
    ending = ending_of(name, endings)
    return names.of(kind, name.removesuffix(ending)) + ending
