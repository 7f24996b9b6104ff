"""Every error that the core raises, and what each means.

AgentError
 ├─ InvalidRequest          what was asked cannot be done as asked; the caller must change it
 │   ├─ Rejected            policy forbids it; names the rule
 │   ├─ InvalidArchive      an uploaded tar is broken, dangerous or over a limit
 │   ├─ TooLarge            more bytes than a setting allows
 │   ├─ StartBeyondEnd      an offset that the log does not have yet
 │   └─ InvalidSettings     a setting is wrong; names the file's line and what is allowed
 ├─ NotFound                no such build, source, artifact or token
 ├─ InvalidIdToken          an id token proves nothing: expired, meant for others, not signed by its issuer
 ├─ Conflict                the state of things forbids it, such as an idempotency key used for another request
 ├─ StaleClaim              the build was claimed anew or finished by another; the holder must let go of it
 ├─ Unavailable             cannot be accepted now, such as a full queue or a draining service; try again later
 ├─ StoreUnavailable        the build store cannot be opened, read or written
 ├─ LogFailed               a build's log could not be written
 ├─ SourceFailed            the build's source could not be brought into its workspace
 ├─ BuildStepFailed         a step of an image's build failed, or its Dockerfile is wrong
 ├─ HookFailed              an image was pushed, but a hook that must succeed after it did not
 ├─ ControllerError         the controller (Jenkins) could not do what was asked
 │   ├─ ControllerUnavailable  no answer, or none of Jenkins': it is down, starting or cut off
 │   ├─ ControllerRefused   it does not let us: a wrong token, or a missing permission
 │   ├─ NodeExists          the node's name is taken
 │   └─ NodeNotFound        no such node
 └─ EngineError             the engine could not do what was asked
     ├─ EngineUnavailable   no answer: it is down, starting or cut off
     ├─ ImageUnavailable    the image is not there and could not be pulled, or must not be
     ├─ PushFailed          a registry did not take an image
     ├─ ContainerNotFound   no such container
     └─ ContainerExists     the name is taken

A build's non-zero exit is not among them: that is a value (`Outcome`). An exception means that we could not find out.
"""

from __future__ import annotations


def root_cause(error: BaseException) -> BaseException:
    """The error that all others around it came from: what libraries wrap says more than their wrapping."""
    return root_cause(error.__context__) if error.__context__ else error


class AgentError(Exception):
    """The root. `str()` is a sentence for the person who reads it: what happened, to what, what to do."""


class InvalidRequest(AgentError):
    """What was asked cannot be done as asked."""


class Rejected(InvalidRequest):
    """Policy forbids it. `rule` is the setting that says so, such as `builds.max_memory`."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


class InvalidArchive(InvalidRequest):
    """An archive is broken, dangerous or over a limit; nothing of it was kept."""


class TooLarge(InvalidRequest):
    """More bytes than a setting allows."""


class StartBeyondEnd(InvalidRequest):
    """An offset that the log does not have yet."""


class InvalidSettings(InvalidRequest):
    """A setting is wrong."""


class NotFound(AgentError):
    """No such build, source, artifact or token."""


class InvalidIdToken(AgentError):
    """An id token proves nothing. `str()` says what is wrong with it, and holds nothing of it."""


class Conflict(AgentError):
    """The state of things forbids it."""


class StaleClaim(AgentError):
    """The build is no longer held by this claim."""


class Unavailable(AgentError):
    """Cannot be accepted now. `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: int = 10) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoreUnavailable(AgentError):
    """The build store cannot be opened, read or written; nothing was changed."""


class LogFailed(AgentError):
    """A build's log could not be written, such as on a full disk."""


class SourceFailed(AgentError):
    """The build's source could not be brought into its workspace."""


class BuildStepFailed(AgentError):
    """A step of an image's build failed, or its Dockerfile is wrong; `str()` carries the builder's own words."""


class HookFailed(AgentError):
    """An image was pushed, but a hook that must succeed after it did not."""


class ControllerError(AgentError):
    """The controller could not do what was asked; `str()` carries its own words."""


class ControllerUnavailable(ControllerError):
    """The controller gave no answer, or something else answered in its place."""


class ControllerRefused(ControllerError):
    """The token is wrong, or its user lacks a permission."""


class NodeExists(ControllerError):
    """The node's name is taken."""


class NodeNotFound(ControllerError):
    """No such node."""


class EngineError(AgentError):
    """The engine could not do what was asked; `str()` carries the engine's own words."""


class EngineUnavailable(EngineError):
    """The engine gave no answer."""


class ImageUnavailable(EngineError):
    """The image is not on the engine and could not be pulled, or must not be."""


class PushFailed(EngineError):
    """A registry did not take an image. `denied` tells that it refused, so that trying again is of no use."""

    def __init__(self, message: str, *, denied: bool) -> None:
        super().__init__(message)
        self.denied = denied


class ContainerNotFound(EngineError):
    """No such container."""


class ContainerExists(EngineError):
    """The container's name is taken."""
