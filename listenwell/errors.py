"""The one family of errors.

Every message names the place, what was found, what was expected and the next step, in one sentence a
stranger understands. The command line prints it without a traceback and exits with `exit_status`:
1 when the work failed, 2 when the command or its configuration was wrong.
"""


class ListenwellError(Exception):
    """Base of all errors that listenwell raises on purpose."""

    exit_status = 1


class ConfigError(ListenwellError):
    """A config file, an override or a command-line value cannot be used."""

    exit_status = 2


class ManifestError(ListenwellError):
    """A table of clips or backgrounds is incomplete or contradicts itself."""


class AudioError(ListenwellError):
    """A recording cannot be read, or holds no usable sound."""


class AudioWarning(UserWarning):
    """A recording was read, and its owner should know how."""


class DownloadError(ListenwellError):
    """A file could not be fetched, or is not the file that was expected."""


class ModelError(ListenwellError):
    """Model weights, a prompt or an adapter do not fit together."""


class TrainingError(ListenwellError):
    """A fit cannot go on."""


class SealError(ListenwellError):
    """A test set would be opened before the thresholds are committed, or the log of its seal is broken."""


class CheckpointError(ListenwellError):
    """A checkpoint cannot be written or belongs to another fit or version, or a kept file was changed since."""


class LeakageError(ListenwellError):
    """Parts of a study that must not know each other share clips, speakers, recordings or backgrounds."""
