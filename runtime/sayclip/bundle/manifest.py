"""``bundle.json``, schema 1: what a bundle holds, validated on reading and on writing."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sayclip.bundle.entries import EncoderEntry, FileEntry
from sayclip.bundle.fields import Fields, parse_json, refuse, shown
from sayclip.bundle.whole_file import write_whole
from sayclip.errors import BundleError

FILE = "bundle.json"
SCHEMA = 1
_MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class Manifest:
    """The manifest of a bundle; ``folder`` is where it was read from, None for one not yet written.

    All encoders share ``space`` and ``width``. ``notice`` is one line that is shown with every result, or empty.
    """

    name: str
    space: str
    width: int
    encoders: Mapping[str, EncoderEntry]
    notice: str = ""
    created_by: str = ""
    license: str = ""
    folder: Path | None = field(default=None, compare=False)

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Manifest:
        """Read and validate the bundle in ``folder``: the manifest whole, and presence and size of every file.

        Hashes are not computed here, see ``files.verify_files``. Unknown keys are ignored. Raises BundleError.
        """
        root = Path(folder)
        if not root.is_dir():
            kind = "is a file" if root.exists() else "does not exist"
            raise refuse(f"bundle {root} {kind}, wanted a folder with {FILE}", "name the folder of a bundle")
        path = root / FILE
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise refuse(f"{path} has {path.stat().st_size} bytes, wanted at most {_MAX_BYTES}")
            text = path.read_bytes().decode("utf-8")
        except FileNotFoundError:
            raise refuse(f"{root} holds no {FILE}, so it is not a bundle", "name the folder of a bundle") from None
        except OSError as error:
            raise refuse(f"{path} cannot be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise refuse(f"{path} is not UTF-8 text") from None
        manifest = cls.from_dict(parse_json(text, str(path)), folder=root)
        for entry in manifest.files():
            manifest._check_present(entry)
        return manifest

    @classmethod
    def from_dict(cls, data: object, *, folder: Path | None = None) -> Manifest:
        """Validate a manifest given as JSON-ready data, without looking at any file. Raises BundleError."""
        fields = Fields(data, str(folder / FILE) if folder else FILE)
        schema = fields.integer("schema")
        if schema > SCHEMA:
            raise refuse(
                f"{fields.where} has schema {schema}, made by a newer sayclip; this one reads schema {SCHEMA}",
                "upgrade with `pip install --upgrade sayclip`",
            )
        if schema < SCHEMA:
            raise refuse(f"{fields.where} has the unknown schema {schema}, wanted {SCHEMA}")
        encoders = fields.object("encoders")
        if not encoders.data:
            raise fields.wrong("encoders", "at least one encoder")
        manifest = cls(
            name=fields.text("name"),
            space=fields.text("space", pattern="[A-Za-z0-9][A-Za-z0-9._-]{0,127}"),
            width=fields.integer("width", low=1, high=65536),
            encoders={name: EncoderEntry.from_fields(encoders.object(name), name) for name in encoders.data},
            notice=fields.text("notice", ""),
            created_by=fields.text("created_by", ""),
            license=fields.text("license", ""),
            folder=folder,
        )
        for name, encoder in manifest.encoders.items():
            if (encoder.space, encoder.width) != (manifest.space, manifest.width):
                raise refuse(
                    f"{encoders.where}.{name} is of space {encoder.space!r} with width {encoder.width}, "
                    f"wanted the bundle's {manifest.space!r} with width {manifest.width}",
                    "put encoders into a bundle of the space they were trained for",
                )
        manifest.files()
        return manifest

    def to_dict(self) -> dict[str, Any]:
        """The manifest as JSON-ready data, as it stands in the file."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "space": self.space,
            "width": self.width,
            "notice": self.notice,
            "created_by": self.created_by,
            "license": self.license,
            "encoders": {name: encoder.to_dict() for name, encoder in self.encoders.items()},
        }

    def write(self, folder: str | os.PathLike[str]) -> Path:
        """Validate, then write ``bundle.json`` into ``folder`` in one step (a kill leaves the old one or the new one).

        The files it names should be there already. Returns the path written. Raises BundleError.
        """
        data = self.to_dict()
        Manifest.from_dict(data)
        path = Path(folder) / FILE
        try:
            text = (json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
        except (TypeError, ValueError) as error:
            raise refuse(f"{path} cannot be written as JSON ({error})", "measure finite numbers only") from None
        try:
            write_whole(path, text)
        except OSError as error:
            raise refuse(f"{path} cannot be written ({error.strerror})", "name a writable folder with room") from None
        return path

    def files(self) -> list[FileEntry]:
        """Every file of the bundle once, in the order of the encoders. Raises BundleError where two entries differ."""
        found: dict[str, FileEntry] = {}
        for encoder in self.encoders.values():
            for entry in encoder.files():
                plain = FileEntry(entry.file, entry.sha256, entry.bytes)
                if found.setdefault(entry.file, plain) != plain:
                    raise refuse(f"{FILE} names {shown(entry.file)} twice with another sha256 or size, wanted the same")
        return list(found.values())

    def path(self, file: str) -> Path:
        """The full path of the bundle's file ``file``. Raises BundleError for a manifest without a folder."""
        if self.folder is None:
            raise refuse(f"the manifest of {self.name} has no folder yet", "write the bundle, then read it")
        return self.folder / file

    def entry(self, encoder: str) -> EncoderEntry:
        """The entry of ``encoder``. Raises BundleError naming the encoders that there are."""
        if encoder not in self.encoders:
            raise BundleError(
                f"bundle {self.name} has no encoder {encoder!r}, it has {', '.join(self.encoders)}",
                "use one of these, or another bundle",
            )
        return self.encoders[encoder]

    def _check_present(self, entry: FileEntry) -> None:
        path = self.path(entry.file)
        try:
            inside = path.resolve(strict=True).is_relative_to(self.path("").resolve())
            status = path.stat()
        except FileNotFoundError:
            raise refuse(f"{path} is missing, the manifest wants it with {entry.bytes} bytes") from None
        except (OSError, RuntimeError, ValueError) as error:  # no permission, a circle of links, a NUL in the name
            raise refuse(f"{path} cannot be read ({error})") from None
        if not inside:
            raise refuse(f"{path} leads out of the bundle to {path.resolve()}, wanted a file inside it")
        if not stat.S_ISREG(status.st_mode):
            raise refuse(f"{path} is not a regular file, wanted one")
        if status.st_size != entry.bytes:
            raise refuse(f"{path} has {status.st_size} bytes, the manifest wants {entry.bytes}")
