"""Pseudonyms, which do not identify patients: salted hashes, whose key stays beside the source."""

from __future__ import annotations

import csv
import hmac
import io
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from x2c.core.errors import UserError
from x2c.core.files import read_json, replacing, write_json

KEY_FILE, LIST_FILE = "x2c_key.json", "x2c_patients.csv"
DIGITS = 12


@dataclass(frozen=True)
class Key:
    """The salt of a source."""

    salt: bytes

    def patient(self, source_id: str) -> str:
        """Return a patient's pseudonym: the same for the same id and key, and useless without the key."""
        return "p" + self._hash("patient", source_id)

    def study(self, source_id: str, what: str) -> str:
        """The pseudonym of one of a patient's examinations."""
        return "s" + self._hash("study", source_id, what)

    def header(self, patient_id: str) -> str:
        """Return a hash of a header's person: equal for equal PatientIDs, different from patients' pseudonyms."""
        return "h" + self._hash("header", patient_id)

    def root(self, folder: Path) -> str:
        """Return a key that tells a source's root from others under the same key."""
        return "r" + self._hash("root", str(folder.resolve()))

    def _hash(self, *parts: str) -> str:
        # Names of folders can be any bytes.
        text = "\x1f".join(parts).encode("utf-8", "surrogateescape")
        return hmac.new(self.salt, text, "sha256").hexdigest()[:DIGITS]


def open_key(folder: Path) -> Key:
    """Return the key in a folder, made there on first use, readable for its owner only.

    Raises UserError where the folder cannot be written or the file is no key.
    """
    path = folder / KEY_FILE
    try:
        if not path.exists():
            with _private():
                write_json(path, {"salt": secrets.token_hex(32), "what": "makes x2c's pseudonyms; keep it secret"})
        return Key(bytes.fromhex(read_json(path)["salt"]))
    except OSError as error:
        raise UserError(
            f"--key: cannot keep {KEY_FILE} beside the source ({error.strerror}); give another folder with --key"
        ) from None
    except (ValueError, LookupError, TypeError):
        raise UserError(f"--key: {KEY_FILE} is not a key of x2c; restore it, or remove it to begin anew") from None


def write_list(path: Path, rows: Iterable[tuple[str, str, str]]) -> None:
    """Write the list of pseudonyms of patient and examination, and the id at the source; for its owner only."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([("patient", "study", "source_id"), *rows])
    with _private(), replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", errors="surrogateescape")


@contextmanager
def _private() -> Iterator[None]:
    """Files are made for their owner only."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
