"""The error tree, arranged by what the caller can do.

::

    QasrError
    ├── RequestError          the caller can fix it
    │   ├── InvalidParameter      a field is missing, malformed or out of range
    │   │   ├── UnsupportedLanguage   no loaded engine hears it
    │   │   └── UnsupportedOption     no loaded engine or stage can honor it
    │   ├── UnknownModel          no such name in the catalogue
    │   ├── ModelNotServed        the name exists, but not on this interface
    │   ├── Unauthorized          no key, or a wrong one
    │   ├── AccessDenied          a right key, but not for this
    │   ├── NotFound              no such object, or not the caller's
    │   ├── WrongState            it cannot be done with the object any more
    │   ├── TooManyObjects        the caller keeps as many objects as they may
    │   └── TooLarge              body or recording exceed the limit in bytes
    ├── MediaError            the recording is at fault
    │   ├── FetchFailed           the address could not be read
    │   │   ├── FetchRefused          the address is not one we may read
    │   │   ├── FetchTimeout
    │   │   ├── FetchIncomplete       the origin sent less than it had announced
    │   │   └── FetchStatus           the origin answered with an error
    │   ├── Undecodable           not audio, or damaged beyond use
    │   │   └── Empty                 not a byte
    │   ├── NoAudioTrack          a container without sound
    │   ├── TooLong               longer than the model takes
    │   └── NoSpeech              nothing was said
    ├── CapacityError         try later
    │   ├── QueueFull
    │   └── RateLimited           the key asks more often than it may
    │       ├── BurstLimited          within one second
    │       └── QuotaExceeded         it has used up what it may have for some time
    └── EngineError           we are at fault
        ├── EngineUnavailable     no engine is loaded, or it is being restarted
        ├── EngineFailed          this call failed and may be tried again
        └── DeadlineExceeded      no answer in time

``str(error)`` is fit for strangers: it names neither paths nor keys nor stack frames. Details go to the log.
"""


class QasrError(Exception):
    """Root of everything that this program raises on purpose."""


class RequestError(QasrError):
    """The caller can fix it."""


class InvalidParameter(RequestError):
    """A field is missing, malformed or out of range; ``parameter`` names it in the dialect's own words."""

    def __init__(self, message: str, *, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class UnsupportedLanguage(InvalidParameter):
    """No loaded engine hears the language; the message names the remedy."""


class UnsupportedOption(InvalidParameter):
    """No loaded engine or stage can honor the option; the message names the remedy."""


class UnknownModel(RequestError):
    """No such name in the catalogue."""


class ModelNotServed(RequestError):
    """The name exists, but not on this interface."""


class Unauthorized(RequestError):
    """No key, or a wrong one; ``given`` tells which."""

    def __init__(self, message: str, *, given: bool = False) -> None:
        super().__init__(message)
        self.given = given


class AccessDenied(RequestError):
    """A right key, but not for this."""


class NotFound(RequestError):
    """No such object, or it belongs to somebody else."""


class WrongState(RequestError):
    """It cannot be done with the object any more."""


class TooManyObjects(RequestError):
    """The caller keeps as many objects as they may; one has to go first."""


class TooLarge(RequestError):
    """Body or recording exceed the limit in bytes."""


class MediaError(QasrError):
    """The recording is at fault."""


class FetchFailed(MediaError):
    """The address could not be read."""


class FetchRefused(FetchFailed):
    """The address is not one that this server may read."""


class FetchTimeout(FetchFailed):
    """The origin did not answer in time."""


class FetchIncomplete(FetchFailed):
    """The origin sent less than it had announced."""


class FetchStatus(FetchFailed):
    """The origin answered with an error status."""

    def __init__(self, message: str, *, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


class Undecodable(MediaError):
    """Not audio, or damaged beyond use."""


class Empty(Undecodable):
    """Not a byte was received."""


class NoAudioTrack(MediaError):
    """A container without sound."""


class TooLong(MediaError):
    """Longer than the model takes."""


class NoSpeech(MediaError):
    """Nothing was said."""


class CapacityError(QasrError):
    """Try later; ``retry_after_s`` says when."""

    retry_after_s: int = 1

    def __init__(self, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s


class QueueFull(CapacityError):
    """More is waiting for the engine than may wait."""


class RateLimited(CapacityError):
    """The key asks more often than it may, or for more at once."""


class BurstLimited(RateLimited):
    """The key asks more often within one second than it may."""


class QuotaExceeded(RateLimited):
    """The key has used up the audio that it may have, in a day or in its queue."""


class EngineError(QasrError):
    """We are at fault."""


class EngineUnavailable(EngineError):
    """No engine is loaded, or it is being restarted; ``retry_after_s`` says when it may be back."""

    retry_after_s: int = 5


class EngineFailed(EngineError):
    """This call failed and may be tried again."""


class DeadlineExceeded(EngineError):
    """No answer in time."""
