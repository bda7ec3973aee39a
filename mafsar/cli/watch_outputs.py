"""What ``mafsar watch`` writes: JSON Lines, a table of events, CSV, webhook, MQTT."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TextIO

from mafsar.cli import outputs, voice
from mafsar.errors import InputError
from mafsar.files import is_file
from mafsar.plain import plain, plain_json

if TYPE_CHECKING:
    from mafsar.runtime.live.events import Event, Status
    from mafsar.runtime.live.send import Sender

_EVENT_BEGINS = b'{"schema": '
_LONGEST_EVENT = 1 << 16  # bytes
COLUMNS = ("id", "source", "region", "label", "score", "p_none", "t_start", "t_end", "time")


class GrowingFile:
    """A text file that grows line by line; each line is on disk as soon as it is written.

    Args:
        flag: What asked for it, for messages.
        path: The file; it is created if need be.
        header: Its first line, where it is empty.
        fresh: Begin anew instead of appending.
    """

    def __init__(self, flag: str, path: Path, header: str = "", *, fresh: bool = False) -> None:
        self._flag, self._path, self._header = flag, path, header
        self._file = self._open("w" if fresh else "a")

    def write(self, line: str) -> None:
        """Writes a line, with its line end."""
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as problem:
            raise self._failed(problem) from None

    def reopen(self) -> None:
        """Closes the file and opens its path again, as after a rotation of logs."""
        self._file.close()
        self._file = self._open("a")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _open(self, mode: str) -> IO[str]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if mode == "a":
                _end_last_line(self._path)
            file = self._path.open(mode, encoding="utf-8", errors="surrogateescape", newline="")
            if self._header and file.tell() == 0:
                file.write(self._header)
                file.flush()
        except OSError as problem:
            raise self._failed(problem) from None
        return file

    def _failed(self, problem: OSError) -> InputError:
        return InputError(
            f"{self._flag} {self._path}: cannot be written ({problem.strerror}); name another file"
        )


def _end_last_line(path: Path) -> None:
    """Ends the last line of a file that is appended to; half an event, which a kill left, is cut."""
    if not is_file(path):
        return
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _LONGEST_EVENT))
        tail = file.read()
        if not tail or tail.endswith(b"\n"):
            return
        last = tail[tail.rfind(b"\n") + 1 :]
        if last.startswith(_EVENT_BEGINS) and not last.endswith(b"}"):
            file.truncate(size - len(last))
        else:
            file.write(b"\n")


class EventOutputs:
    """Sends every event where it is wanted.

    Args:
        json_lines: JSON Lines instead of a table.
        senders: Webhook and broker.
    """

    def __init__(self, *, json_lines: bool, senders: Mapping[str, Sender]) -> None:
        self.count = 0
        self._json_lines = json_lines
        self._results: TextIO = sys.stdout
        self._jsonl: GrowingFile | None = None
        self._csv: GrowingFile | None = None
        self._senders = senders
        self._reopen = False

    def open(self, results: TextIO, *, jsonl: Path | None, csv_path: Path | None) -> None:
        """Opens the files, once nothing that can go wrong before the first event is left.

        Args:
            results: Where the table or the JSON Lines go.
            jsonl: File to append JSON Lines to, or None.
            csv_path: File for one line per finished event, or None; what is in it is lost.
        """
        self._results = results
        if jsonl is not None:
            self._jsonl = GrowingFile("--jsonl", jsonl)
        if csv_path is not None:
            header = ",".join(COLUMNS) + "\r\n"
            self._csv = GrowingFile("--csv", csv_path, header, fresh=True)

    def ask_to_reopen(self) -> None:
        """Opens the files again before the next line; safe in a signal handler."""
        self._reopen = True

    def event(self, event: Event) -> None:
        """Writes and sends an event."""
        document = event.to_json()
        self._everywhere(document)
        if event.event == "end":
            self.count += 1
            if self._csv is not None:
                self._csv.write(_csv_line(document))
        if not self._json_lines:
            self._results.write(f"{plain(_line(event))}\n")
            self._results.flush()

    def status(self, status: Status) -> None:
        """Writes and sends a status; without JSON it is a note on stderr."""
        self._everywhere(status.to_json())
        if not self._json_lines:
            _say(status)

    def close(self) -> None:
        """Closes files, and says what could not be sent."""
        for file in (self._jsonl, self._csv):
            if file is not None:
                file.close()
        for flag, sender in self._senders.items():
            sender.close()
            if sender.dropped:
                why = f" ({sender.problem})" if sender.problem else ""
                voice.warn(f"{flag}: {sender.dropped} messages were not delivered{why}")

    def _everywhere(self, document: dict[str, Any]) -> None:
        if self._reopen:
            self._reopen = False
            for file in (self._jsonl, self._csv):
                if file is not None:
                    file.reopen()
        if self._json_lines:
            outputs.print_json(self._results, document)
        if self._jsonl is not None:
            line = json.dumps(document, ensure_ascii=False, allow_nan=False)
            self._jsonl.write(f"{plain_json(line)}\n")
        for sender in self._senders.values():
            sender.put(document)


def _csv_line(document: Mapping[str, Any]) -> str:
    import io

    text = io.StringIO()
    values = (document[name] for name in COLUMNS)
    csv.writer(text).writerow(["" if value is None else value for value in values])
    return text.getvalue()


def _line(event: Event) -> str:
    """``12.4 s  start  wave  0.93  (camera, door)``."""
    at = event.t_start if event.t_end is None else event.t_end
    where = ", ".join(word for word in (event.source, event.region) if word)
    lasted = "" if event.t_end is None else f"  {event.t_end - event.t_start:.1f} s long"
    return f"{at:9.2f} s  {event.event:<5}  {event.label}  {event.score:.2f}{lasted}  ({where})"


def _say(status: Status) -> None:
    message = f" ({status.message})" if status.message else ""
    name = status.source or "all sources"
    line = f"{name}: {status.state}{message}"
    if status.state in ("lost", "dark", "frozen", "refused"):
        voice.tell(f"warning: {line}")
    elif status.state in ("back", "reloaded") or status.message:
        voice.tell(line)
