"""`index.json` and the table of an index's files: what is in it, and whether it is finished."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mafsar import documents
from mafsar.errors import InputError, MissingError
from mafsar.runtime.archive.parts import FileRecord, table_buffer
from mafsar.runtime.archive.settings import IndexSettings
from mafsar.runtime.archive.store import Store
from mafsar.version import __version__

SCHEMA = 1
MANIFEST = "index.json"
_CHECK = documents.record(
    {
        "schema": documents.whole(SCHEMA, SCHEMA),
        "kind": documents.one_of("index"),
        "made_by": documents.text(longest=100),
        "settings": documents.record({}, open_to_more=True),
        "complete": documents.flag,
        "sources": documents.optional(documents.text(longest=200)),
        "basis": documents.optional(documents.text(longest=200)),
        "shards": documents.items(
            documents.record(
                {
                    "table": documents.text(longest=200),
                    "features": documents.text(longest=200),
                    "windows": documents.whole(1, 1 << 40),
                    "coarse": documents.optional(documents.text(longest=200)),
                }
            ),
            0,
            1 << 20,
        ),
    },
    open_to_more=True,
)


@dataclass(frozen=True)
class ShardEntry:
    """One shard: some tens of thousands of windows.

    Attributes:
        table: Its Parquet file.
        features: Its Arrow file.
        windows: How many it has.
        coarse: The Arrow file of its small copy, or None.
    """

    table: str
    features: str
    windows: int
    coarse: str | None = None


@dataclass(frozen=True)
class Source:
    """A file of the archive as it was named.

    Attributes:
        name: As `watch` would call it.
        record: What is known of it.
        same_as: Name of a file with the same content whose windows stand for it, or None.
    """

    name: str
    record: FileRecord
    same_as: str | None = None


@dataclass(frozen=True)
class Manifest:
    """What an index holds.

    Attributes:
        settings: What it is made with.
        complete: Whether all files that were named are in it.
        sources: Name of the table of its files; None before it was finished for the first time.
        shards: Its shards, in order.
        basis: The file with the directions of the small copies, or None.
    """

    settings: IndexSettings
    complete: bool = False
    sources: str | None = None
    shards: tuple[ShardEntry, ...] = ()
    basis: str | None = None

    @property
    def windows(self) -> int:
        """How many windows it has."""
        return sum(shard.windows for shard in self.shards)

    def write(self, store: Store) -> None:
        """Writes it as `index.json`."""
        document = {
            "schema": SCHEMA,
            "kind": "index",
            "made_by": __version__,
            "settings": self.settings.to_json(),
            "complete": self.complete,
            "sources": self.sources,
            "basis": self.basis,
            "shards": [asdict(shard) for shard in self.shards],
        }
        text = json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True)
        store.write(MANIFEST, text.encode())


def read_manifest(store: Store) -> Manifest:
    """Reads `index.json`.

    Raises:
        MissingError: There is none.
        InputError: It is not that of an index, or damaged.
    """
    try:
        text = store.read(MANIFEST).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        raise MissingError(
            f"{store.place}: not an index; make it with mafsar index SOURCES -o {store.place}"
        ) from None
    try:
        data = documents.parse_json(text, MANIFEST)
        _CHECK(data, "")
        settings = IndexSettings.from_json(data["settings"])
    except InputError as error:
        raise InputError(f"{store.place}: damaged index: ", error) from error
    shards = tuple(ShardEntry(**each) for each in data["shards"])
    return Manifest(settings, data["complete"], data["sources"], shards, data["basis"])


def write_sources(
    store: Store, settings: IndexSettings, name: str, sources: Sequence[Source]
) -> None:
    """Writes the table of an index's files."""
    import pyarrow as pa

    schema = pa.schema(
        [
            ("source", pa.string()),
            ("path", pa.string()),
            ("content_sha256", pa.string()),
            ("size_bytes", pa.int64()),
            ("modified_ns", pa.int64()),
            ("duration_seconds", pa.float64()),
            ("fps", pa.float64()),
            ("windows", pa.int64()),
            ("repairs", pa.list_(pa.string())),
            ("error", pa.string()),
            ("same_as", pa.string()),
        ]
    )
    rows = [
        asdict(each.record) | {"source": each.name, "same_as": each.same_as} for each in sources
    ]
    table = pa.Table.from_pylist([_textual(row) for row in rows], schema=schema)
    store.write(name, table_buffer(table, settings))


def read_sources(store: Store, manifest: Manifest) -> list[Source]:
    """The files of an index, in order; none before it was finished for the first time."""
    if manifest.sources is None:
        return []
    from pyarrow import parquet

    with store.open(manifest.sources) as file:
        rows = parquet.read_table(file).to_pylist()
    found = []
    for row in rows:
        name, same_as = row.pop("source"), row.pop("same_as")
        row["repairs"] = tuple(row["repairs"] or ())
        found.append(Source(name, FileRecord(**row), same_as))
    return found


def as_text(name: str) -> str:
    """A name without the surrogates that stand for bytes of file names that are no text."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _textual(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: as_text(value) if isinstance(value, str) else value for name, value in row.items()
    }
