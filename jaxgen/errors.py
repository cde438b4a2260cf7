"""The errors a person can act on: each message names the thing, the value and the fix."""

from collections.abc import Sequence

RESTART_STATUS = 75
"""The exit status of a process that asks to be started again with the same command.

It is EX_TEMPFAIL of sysexits.h: the failure is temporary, and the caller is to try again. A process
that was asked to stop has it once its state is saved, and one that the watchdog ends.
"""


class JaxgenError(Exception):
    """Base of every error that the command line prints as one message, without a traceback.

    Attributes:
      exit_status: of the process that it ends.
    """

    exit_status = 1


class ConfigError(JaxgenError):
    """A configuration that cannot be what the user meant."""


class DataError(JaxgenError):
    """A source, a record, a tokenizer or a mixture that cannot be read as asked."""


class NoRecordsError(DataError):
    """A split of a source that has no record."""


class MissingDataError(DataError):
    """Files of a run that has begun and that are out of reach for now."""

    exit_status = RESTART_STATUS


class ShardingError(JaxgenError):
    """A mesh that does not fit the devices, or an array that does not fit the mesh."""


class CheckpointError(JaxgenError):
    """A run directory or checkpoint that cannot be written, read or trusted."""


class DiskError(CheckpointError):
    """A disk that takes nothing for now, such as a full one."""

    exit_status = RESTART_STATUS


class StoreError(CheckpointError):
    """An object store that cannot be read for now, and may have what a run would go on from."""

    exit_status = RESTART_STATUS


class DamagedCheckpointError(CheckpointError):
    """A checkpoint whose files are not those that were saved."""


class UnreadableCheckpointError(CheckpointError):
    """A checkpoint that is within reach and cannot be read: damaged, or of another model."""


class TrainingError(JaxgenError):
    """Training that cannot go on, such as a loss that is not finite."""


class NotFiniteError(TrainingError):
    """A loss or gradient that is not finite."""


class CorruptionError(TrainingError):
    """Devices that compute or hold other bits than they should."""


class InterruptedTrainingError(TrainingError):
    """Training that was asked to stop; its state is saved."""

    exit_status = RESTART_STATUS


class EarlyStoppingError(TrainingError):
    """Training that a sweep's rule ends before its last step."""


class InterchangeError(JaxgenError):
    """A checkpoint of another framework that cannot be read, or a model that it cannot express."""


class StudyError(JaxgenError):
    """Runs that make no study, or a prediction that cannot be registered or trusted."""


class JaxgenWarning(UserWarning):
    """Something a person should know that stops nothing; the command line prints it as a note."""


def listed(lines: Sequence[str], most: int = 8) -> str:
    """Returns the first lines of a list, set in, and how many more there are."""
    shown = [f"  {line}" for line in lines[:most]]
    left = len(lines) - len(shown)
    return "\n".join(shown + ([f"  and {left} more"] if left else []))


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that memory could not be had: Python's, numpy's or JAX's."""
    if isinstance(error, MemoryError):
        return True
    message = str(error)
    return type(error).__name__ == "JaxRuntimeError" and (
        "RESOURCE_EXHAUSTED" in message or "Ran out of memory" in message
    )
