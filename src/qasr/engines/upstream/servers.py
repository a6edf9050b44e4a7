"""Which server is asked next, and which is left alone for a while.

::

    excluded ──probe succeeds──▶ admitted ──3 failures in a row, or a sure one──▶ excluded
       └─ probed again after a pause that doubles              └─ 429: rests as long as it asks, others are taken

A server is admitted with what a probe found out, so one that comes back as another is used as what it is now. Admitted
servers are looked at from time to time as well: one that died is known before a segment is lost on it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from typing import Final, Self
from urllib.parse import urlsplit

import anyio
import anyio.abc
import structlog

from qasr.domain.errors import EngineFailed, EngineUnavailable
from qasr.engines.upstream.client import Broken, Busy, UpstreamFailure
from qasr.engines.upstream.probe import Findings

FAILURES: Final = 3
"""In a row, after which a server that answers is taken for broken."""
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
FIRST_LOOK_S: Final = 10.0
"""How long the start waits for servers that do not answer; they may come later."""

log = structlog.get_logger(__name__)


class Server:
    """One server and what we know of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.label = urlsplit(url).netloc
        """For logs."""
        self.findings: Findings | None = None
        """None: excluded."""
        self.reason = "it was not asked yet"
        """Why it is excluded."""
        self.in_flight = 0
        self.rests_until = 0.0
        self.last_used = 0
        self.seen = anyio.Event()
        """Set once it has been probed, however that went."""
        self.fell = anyio.Event()
        """Set when it is excluded; a fresh one from when it is admitted."""
        self._failures = self._missed = 0
        self._exclusions = 0

    def admit(self, findings: Findings) -> None:
        """It works, as *findings* say."""
        log.info(
            "upstream_admitted",
            server=self.label,
            model=findings.model,
            chat=findings.chat,
            transcriptions=findings.transcriptions,
            verbose=findings.verbose,
            takes_language=findings.language,
            takes_prompt=findings.prompt,
        )
        self.findings, self.fell = findings, anyio.Event()
        self._failures = self._missed = 0

    def succeeded(self) -> None:
        """It recognized a segment."""
        self._failures = self._exclusions = 0

    def failed(self, failure: UpstreamFailure) -> None:
        """It did not recognize a segment."""
        if isinstance(failure, Busy):
            self.rests_until = max(self.rests_until, anyio.current_time() + failure.retry_after_s)
        elif self.findings is not None:  # else this is an echo of what excluded it
            self._failures += 1
            if self._failures >= FAILURES or _is_sure(failure):
                self.exclude(str(failure))

    def lived(self) -> None:
        """It gave a sign of life."""
        self._missed = 0

    def missed(self, failure: UpstreamFailure) -> None:
        """It gave none."""
        self._missed += 1
        if self.findings is not None and (self._missed >= FAILURES or _is_sure(failure)):
            self.exclude(str(failure))

    def exclude(self, reason: str) -> None:
        """It is not asked until a probe succeeds."""
        if self.findings is not None or reason != self.reason:
            log.warning("upstream_excluded", server=self.label, reason=reason)
        self.findings, self.reason = None, reason
        self._exclusions += 1
        self.fell.set()

    @property
    def pause_s(self) -> float:
        """How long it is left alone before the next probe."""
        return min(FIRST_PAUSE_S * 2.0 ** min(self._exclusions - 1, 16), LONGEST_PAUSE_S)


def _is_sure(failure: UpstreamFailure) -> bool:
    return isinstance(failure, Broken) and failure.surely


class Servers:
    """All servers. An async context manager: inside, they are watched.

    Args:
        urls: their bases.
        concurrency: requests at one of them at a time.
        probe: finds out what the server at an address honors.
        look: asks the server at an address for a sign of life.
        every_s: between two signs of life.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        concurrency: int,
        probe: Callable[[str], Awaitable[Findings]],
        look: Callable[[str], Awaitable[object]],
        every_s: float,
    ) -> None:
        self._servers = [Server(url) for url in urls]
        self._concurrency, self._probe, self._look, self._every_s = concurrency, probe, look, every_s
        self._changed = anyio.Event()
        self._uses = 0
        self._group: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._group = await anyio.create_task_group().__aenter__()
        for server in self._servers:
            self._group.start_soon(self._watch, server)
        try:
            with anyio.move_on_after(FIRST_LOOK_S):
                for server in self._servers:
                    await server.seen.wait()
        except BaseException:  # nobody would end the watch
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._group is not None
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)

    @property
    def problem(self) -> str | None:
        """Why nothing can be recognized now, without addresses; None if it can."""
        if any(server.findings is not None for server in self._servers):
            return None
        reasons = "; ".join(dict.fromkeys(server.reason for server in self._servers))
        return f"none of {len(self._servers)} upstream speech servers can be used ({reasons})"

    @asynccontextmanager
    async def turn(self, language: str | None, tried: AbstractSet[Server]) -> AsyncIterator[tuple[Server, Findings]]:
        """The right to one request: the least busy server that can be asked for *language*, if possible not of *tried*.

        Raises:
            EngineUnavailable: all are excluded.
            EngineFailed: those that are not cannot be told a language.
        """
        server, findings = await self._free(language, tried)
        self._uses += 1
        server.last_used = self._uses
        server.in_flight += 1
        try:
            yield server, findings
        finally:
            server.in_flight -= 1
            self._tell()

    async def _free(self, language: str | None, tried: AbstractSet[Server]) -> tuple[Server, Findings]:
        while True:
            able = self._able(language)
            now = anyio.current_time()
            rested = [(server, found) for server, found in able if server.rests_until <= now]
            wanted = [(server, found) for server, found in rested if server not in tried] or rested
            free = [(server, found) for server, found in wanted if server.in_flight < self._concurrency]
            if free:
                return min(free, key=lambda one: (one[0].in_flight, one[0].last_used))
            changed = self._changed
            rests_s = min((server.rests_until - now for server, _ in able if server.rests_until > now), default=None)
            with anyio.move_on_after(rests_s):
                await changed.wait()

    def _able(self, language: str | None) -> list[tuple[Server, Findings]]:
        admitted = [(server, server.findings) for server in self._servers if server.findings is not None]
        if not admitted:
            raise EngineUnavailable("No upstream speech server can be reached; please try again later.")
        able = [(server, found) for server, found in admitted if found.way(language) is not None]
        if not able:
            raise EngineFailed("The upstream speech servers cannot be told which language is spoken.")
        return able

    def _tell(self) -> None:
        """Those who wait look again."""
        self._changed.set()
        self._changed = anyio.Event()

    def failed(self, server: Server, failure: UpstreamFailure) -> None:
        """*server* did not answer as it should; those who wait for it look for another one."""
        server.failed(failure)
        self._tell()

    async def _watch(self, server: Server) -> None:
        while True:
            if server.findings is None:
                await self._try(server)
            else:
                await self._look_at(server)
            server.seen.set()
            self._tell()
            if server.findings is not None:
                with anyio.move_on_after(self._every_s):
                    await server.fell.wait()
            if server.findings is None:
                await anyio.sleep(min(server.pause_s, max(self._every_s, FIRST_PAUSE_S)))

    async def _try(self, server: Server) -> None:
        try:
            server.admit(await self._probe(server.url))
        except UpstreamFailure as failure:
            server.exclude(str(failure))
        except Exception:  # a bug of ours must not end the watch over the others
            log.exception("upstream_probe_raised", server=server.label)
            server.exclude("the probe of it failed")

    async def _look_at(self, server: Server) -> None:
        try:
            await self._look(server.url)
        except UpstreamFailure as failure:
            server.missed(failure)
        else:
            server.lived()
