"""The one file that knows of other processes: their start, the main one, agreement, whole arrays.

Every process of a program makes the same calls in the same order, and each reads its own rows. The
main process alone writes and prints; what it finds out on disk, or fails at, it tells the others
(`on_main`), so that all of them go on, or all of them end.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np

from jaxgen import errors
from jaxgen.clusters import ProcessGroup, process_group
from jaxgen.errors import ConfigError, JaxgenError, TrainingError

CLUSTER = "JAXGEN_CLUSTER"
"""Names one of jax.distributed's own ways to find the others, such as gcetpu or mpi4py."""

FOREVER = 7 * 24 * 3600 * 1000
"""Milliseconds that a process waits for the main one, which may prepare data or read a model."""

_CALLS = itertools.count()
_GATHERED: list[str] = []

Result = TypeVar("Result")


def start() -> None:
    """Joins the other processes, if the environment names any; before devices are used.

    Raises:
      ConfigError: if the environment says so by half, or the others cannot be reached.
    """
    if jax.distributed.is_initialized():
        return
    # Its service takes SIGTERM for itself, and whoever is not in a loop that asks it hears nothing.
    jax.config.update("jax_enable_preemption_service", False)
    if method := os.environ.get(CLUSTER):
        jax.distributed.initialize(cluster_detection_method=method)
    elif (group := process_group(os.environ)) is not None:
        _check_host(group)
        try:
            jax.distributed.initialize(group.coordinator, group.count, group.index)
        except RuntimeError as error:
            raise ConfigError(
                f"process {group.index} of {group.count} ({group.kind}) cannot join the others at "
                f"{group.coordinator} ({group.variable}): {' '.join(str(error).split())[:300]}"
            ) from error
    if process_count() > 1:
        sys.excepthook = _end_after
        _take_standard_output()


def _take_standard_output() -> None:
    """Leaves standard output to what Python prints on the main process.

    Gloo writes a line there for each of its connections.
    """
    sys.stdout.flush()
    printed = os.dup(1)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    sys.stdout = os.fdopen(printed if is_main() else silent, "w", buffering=1)


def _end_after(*error: Any) -> None:
    """Prints an unexpected error, and ends the process before it waits for the others to end."""
    sys.__excepthook__(*error)
    leave(1)


def _check_host(group: ProcessGroup) -> None:
    """Raises ConfigError if the coordinator has no address, where jax.distributed would hang."""
    host, port = group.coordinator.rsplit(":", 1)
    try:
        socket.getaddrinfo(host.strip("[]"), int(port))
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"the host {host!r}, where the first of {group.count} processes listens "
            f"({group.variable}), has no address here: {error}. Set JAX_COORDINATOR_ADDRESS to an "
            "address that every host resolves, such as 10.0.0.1:61440."
        ) from error


def is_main() -> bool:
    """Returns whether this is the process that writes; a process alone always is."""
    return process_index() == 0


def process_index() -> int:
    """Returns the number of this process; 0 is the main one. Asks no device."""
    return _state().process_id or 0


def process_count() -> int:
    """Returns the number of processes. Asks no device."""
    return _state().num_processes or 1


def on_main(function: Callable[..., Result], *arguments: Any) -> Result:
    """Calls a function on the main process alone, and returns its result on all.

    Args:
      function: returns what JSON can hold, where there are other processes.
      *arguments: of the function.

    Raises:
      Exception: whatever the function raises on the main process, and on the others a JaxgenError
        of that kind and message.
    """
    if process_count() == 1:
        return function(*arguments)
    name = f"jaxgen/on_main/{next(_CALLS)}"
    if not is_main():
        said = json.loads(_client().blocking_key_value_get(name, FOREVER))
        if "error" in said:
            raise _told(*said["error"])
        return said["result"]
    try:
        result = function(*arguments)
    except Exception as error:
        error.told = True  # pyright: ignore[reportAttributeAccessIssue]
        _client().key_value_set(name, json.dumps({"error": [type(error).__name__, str(error)]}))
        raise
    _client().key_value_set(name, json.dumps({"result": result}))
    return result


def gather(value: Any) -> list[Any]:
    """Returns each process's value, which JSON can hold, by process; call it on all of them."""
    if process_count() == 1:
        return [value]
    name = f"jaxgen/gather/{next(_CALLS)}"
    _client().key_value_set(f"{name}/{process_index()}", json.dumps(value))
    found = [
        json.loads(_client().blocking_key_value_get(f"{name}/{index}", FOREVER))
        for index in range(process_count())
    ]
    if is_main():
        for before in _GATHERED:
            forget(before)  # Whoever has told its value now has read those before.
        _GATHERED[:] = [name]
    return found


def tell(name: str, value: str) -> None:
    """Tells all processes something under a name, of which the first value counts."""
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # Another has told it already.
        _client().key_value_set(name, value)


def heard(name: str, seconds: float = 0.0) -> str | None:
    """Returns what a process has told under a name; waits for it so long, and then returns None."""
    try:
        if seconds == 0:
            return _client().key_value_try_get(name)
        return _client().blocking_key_value_get(name, int(1000 * seconds))
    except jax.errors.JaxRuntimeError as error:
        if any(code in str(error) for code in ("NOT_FOUND", "DEADLINE_EXCEEDED")):
            return None
        raise


def forget(name: str) -> None:
    """Frees what was told under a name and under those that continue it after a slash."""
    _client().key_value_delete(f"{name}/")


@contextlib.contextmanager
def held_by_main(manager: Callable[[], contextlib.AbstractContextManager[Any]]) -> Iterator[None]:
    """Enters a context on the main process, before any goes on, such as a lock."""
    with contextlib.ExitStack() as stack:
        on_main(lambda: stack.enter_context(manager()) and None)
        yield


def check_same(name: str, value: str) -> None:
    """Checks that all processes were started alike.

    Args:
      name: of what is compared, for the message.
      value: it, such as a digest.

    Raises:
      ConfigError: on the process whose value is not the main one's.
    """
    main = on_main(lambda: value)
    if main != value:
        raise ConfigError(
            f"process {process_index()} was started with another {name} than process 0: {value} "
            f"for {main}; give every process the same command and files."
        )


class Agreement:
    """Lets processes end at one step, though only some of them are asked to.

    Processes that train together are never more than a step apart, since a step ends for none
    before it has begun for all, and its figures are read a step later. So a request made after
    step s is known to all at the end of step s + 2, which is when they act on it.
    """

    def __init__(self):
        self._name = f"jaxgen/stop/{next(_CALLS)}"
        self._at: tuple[int, str] | None = None

    def reason(self, step: int, request: str | None) -> str | None:
        """Returns why all processes end after a step, or None.

        Args:
          step: that this process has begun.
          request: why this process wants to end; None if it does not.
        """
        if process_count() == 1:
            return request
        if self._at is None and request is not None:
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # Another has asked already.
                _client().key_value_set(self._name, json.dumps([step + 2, request]))
        if self._at is None:
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # Nobody has asked.
                self._at = tuple(json.loads(_client().key_value_try_get(self._name)))
        return self._at[1] if self._at is not None and step >= self._at[0] else None


def meet(mesh: jax.sharding.Mesh) -> None:
    """Connects the processes along all axes of a mesh, at one time.

    Gloo, which CPU devices communicate by, gives a process thirty seconds to appear when devices
    communicate for the first time. Later, when one has compiled a large program and another found
    it in its cache, they may not be there as near together.
    """
    members = {device.process_index for device in mesh.devices.flat}
    if len(members) < max(2, process_count()) or mesh.devices.flat[0].platform != "cpu":
        return
    axes = [axis for axis, size in mesh.shape.items() if size > 1]
    sharding = jax.NamedSharding(mesh, jax.P(axes))
    ones = jax.make_array_from_callback((mesh.size,), sharding, lambda index: np.ones(1))
    _client().wait_at_barrier(f"jaxgen/meet/{next(_CALLS)}", FOREVER)
    for count in range(1, len(axes) + 1):
        for some in itertools.combinations(axes, count):
            total = functools.partial(jax.lax.psum, axis_name=some)
            rest = jax.P(tuple(axis for axis in axes if axis not in some))
            add = jax.shard_map(total, mesh=mesh, in_specs=jax.P(axes), out_specs=rest)
            jax.block_until_ready(jax.jit(add)(ones))


def fetch(tree: Any) -> Any:
    """Returns a pytree of arrays as whole numpy arrays, on every process."""
    return jax.tree.map(_fetched, tree)


def _fetched(array: Any) -> np.ndarray:
    if isinstance(array, jax.Array) and not (
        array.is_fully_addressable or array.is_fully_replicated
    ):
        assert isinstance(array.sharding, jax.NamedSharding)
        array = _replicated(array.sharding.mesh)(array)
    return np.asarray(array)


@functools.cache
def _replicated(mesh: Any) -> Any:
    return jax.jit(lambda array: array, out_shardings=jax.NamedSharding(mesh, jax.P()))


def leave(status: int, error: BaseException | None = None) -> int:
    """Ends this process at once if there are others, which then do not wait for it for ever.

    Args:
      status: to end with.
      error: why; one that all processes have ends them together, each in its own time.

    Returns:
      The status, if this process need not end at once.
    """
    if process_count() > 1 and not (error is not None and is_shared(error)):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def is_shared(error: BaseException) -> bool:
    """Returns whether an error is raised on all processes, so that one alone need print it."""
    return isinstance(error, ToldError | TrainingError) or getattr(error, "told", False)


class ToldError(JaxgenError):
    """An error of the main process, as the others raise it."""


@functools.cache
def _kind_told(name: str) -> type[JaxgenError]:
    kind = getattr(errors, name, JaxgenError)
    return type(name, (ToldError, kind), {})


def _told(name: str, message: str) -> JaxgenError:
    return _kind_told(name)(message)


def _state() -> Any:
    from jax._src.distributed import global_state  # No public way asks no device.

    return global_state


def _client() -> Any:
    return _state().client
