"""The few kinds of error that mafsar raises on purpose.

Each is also a builtin kind, so that callers who know nothing of mafsar can still catch what they
would expect. A message says what is wrong, where, and what to do, in one line: the command line
prints it as it is.
"""


class MafsarError(Exception):
    """Base of every error that mafsar raises on purpose."""


class InputError(MafsarError, ValueError):
    """A value, file or folder that the user named is not what it should be."""


class MissingError(MafsarError, FileNotFoundError):
    """A file, folder, model or class that the user named does not exist."""

    def __str__(self) -> str:
        # OSError would print "[Errno …]" for some argument counts.
        return str(self.args[0]) if self.args else ""


class VideoError(InputError):
    """A clip cannot be decoded; the message starts with its path."""


class MismatchError(MafsarError, RuntimeError):
    """Two artefacts do not belong together (hash, schema, shape of features)."""


class UnavailableError(MafsarError, RuntimeError):
    """An engine, device, precision, package or feature is not there; says what to install."""


class TrainingError(MafsarError, RuntimeError):
    """Training cannot go on (a loss that is no number, a process that ended); state is kept."""


class LostProcessError(TrainingError):
    """Another process of a distributed run has ended; what libraries share with it is broken."""
