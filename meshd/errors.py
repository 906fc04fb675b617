"""The errors meshd raises, named by whose fault they are.

Rule 1: a bug is an `AssertionError` and ends the process; nothing here is for bugs.
Rule 2: a refusal between nodes (no capacity, not the holder) is a value, never an exception.
Rule 3: a message names the value, the limit, and the way out.
"""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of `meshd` and `meshctl`: a contract with scripts."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    UNAVAILABLE = 4
    DENIED = 5
    CONFLICT = 6
    DEGRADED = 7


class MeshdError(Exception):
    """Whatever meshd raises on purpose. `exit` is what a command ends with when nobody handles it."""

    exit = Exit.FAILURE


class MisuseError(MeshdError):
    """The caller broke a rule of the function or command it called; no state changed."""

    exit = Exit.USAGE


class InvalidError(MeshdError):
    """Something from outside (a model, a tensor, a message, a file) is not what it must be; nothing of it was kept."""

    exit = Exit.FAILURE


class NotFoundError(MeshdError):
    """There is no such model, deployment, node or token."""

    exit = Exit.NOT_FOUND


class UnavailableError(MeshdError):
    """Right now nobody can do it (no holder, daemon not running, time is up); trying again later is right."""

    exit = Exit.UNAVAILABLE


class DeniedError(MeshdError):
    """The caller has no role for this."""

    exit = Exit.DENIED


class ConflictError(MeshdError):
    """What is asked contradicts what is, or constraints that cannot be met (too little memory anywhere)."""

    exit = Exit.CONFLICT
