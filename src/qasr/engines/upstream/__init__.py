"""Other speech servers as an engine: vLLM with Qwen3-ASR on GPUs, another ``qasr``, all with OpenAI's interfaces.

::

    segment ─▶ servers.turn ─▶ chat completion   (language unknown: the answer tells it)
                  ▲       └──▶ transcription     (language known, or words with times)
                  │               │
                  └── next server ┴── 429, 5xx, no answer, nonsense

``settings.py`` what the operator says, ``probe.py`` what a server honors, ``servers.py`` which one is asked,
``client.py`` one exchange, ``wire.py`` the shapes. Batches are for engines with tensors: here each segment is a request
of its own, and the servers put together what arrives together.
"""

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache, partial
from typing import Final

import anyio
import httpx2
import structlog

from qasr.domain.audio import Pcm
from qasr.domain.errors import EngineFailed, EngineUnavailable
from qasr.domain.transcript import Hypothesis
from qasr.engines.base import Capabilities, Recognizer, Request
from qasr.engines.upstream import wire
from qasr.engines.upstream.client import Broken, Busy, Refused, UpstreamClient, UpstreamFailure
from qasr.engines.upstream.probe import Findings, list_models, probe
from qasr.engines.upstream.servers import Server, Servers
from qasr.engines.upstream.settings import UpstreamSettings
from qasr.engines.upstream.wire import Form

IDLE_S: Final = 4.0
"""Connections unused for longer are closed by us: uvicorn, and with it vLLM, closes them after 5 s."""

log = structlog.get_logger(__name__)


class Upstream:
    """Our end of the servers."""

    def __init__(self, servers: Servers, client: UpstreamClient, settings: UpstreamSettings) -> None:
        self._servers, self._client, self._settings = servers, client, settings
        self._capabilities = Capabilities(
            name="upstream",
            languages=settings.languages,
            longest_s=settings.longest_s,
            parallel_calls=settings.concurrency * len(settings.urls),
            punctuation=True,
            word_times=settings.word_times,
            context=settings.context,
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the operator says that the model behind can do; servers that cannot are not used."""
        return self._capabilities

    @property
    def problem(self) -> str | None:
        """Why nothing can be recognized now; None if it can."""
        return self._servers.problem

    async def recognize(self, batch: Sequence[Request]) -> list[Hypothesis]:
        """One request per segment, all at once; leaving early closes their connections.

        Raises:
            EngineFailed: a segment failed on as many servers as it may be tried on, or a server found fault with it.
            EngineUnavailable: no server can be used, or they were too busy for too long.
        """
        heard: dict[int, Hypothesis] = {}
        failures: list[EngineFailed | EngineUnavailable] = []

        async def one(place: int, request: Request) -> None:
            try:
                heard[place] = await self._hear(request)
            except (EngineFailed, EngineUnavailable) as failure:
                failures.append(failure)

        async with anyio.create_task_group() as group:
            for place, request in enumerate(batch):
                group.start_soon(one, place, request)
        if failures:
            raise failures[0]
        return [heard[place] for place in range(len(batch))]

    async def _hear(self, request: Request) -> Hypothesis:
        language = request.hints.language
        tried: set[Server] = set()
        n_failures = 0
        patience_ends = anyio.current_time() + self._settings.timeout_s
        while True:
            async with self._servers.turn(language, tried) as (server, findings):
                try:
                    hypothesis = await self._ask(server, findings, request)
                except Refused as refused:
                    log.warning("upstream_refused", server=server.label, reason=str(refused))
                    raise EngineFailed("The upstream speech server does not take this segment.") from refused
                except UpstreamFailure as failure:
                    self._servers.failed(server, failure)
                    log.info("upstream_failed", server=server.label, reason=str(failure), n_failures=n_failures + 1)
                    tried.add(server)
                    last = failure
                else:
                    server.succeeded()
                    return hypothesis
            if not isinstance(last, Busy):
                n_failures += 1
                if n_failures >= self._settings.attempts:
                    raise EngineFailed("The upstream speech servers failed; retry.") from last
            elif anyio.current_time() >= patience_ends:
                raise EngineUnavailable("The upstream speech servers are busy; please try again later.") from last

    async def _ask(self, server: Server, findings: Findings, request: Request) -> Hypothesis:
        """One request to one server.

        Raises:
            UpstreamFailure: there was no good answer.
        """
        language, pcm = request.hints.language, request.segment.pcm
        context = request.hints.context if self._settings.context else ""
        if findings.way(language) == "chat":
            body = wire.chat_request(findings.model, pcm, context, language)
            hypothesis, telling = wire.read_chat(await self._client.post(f"{server.url}/chat/completions", **body))
            if telling != findings.chat:
                raise Broken("its answer is in another shape than its first one")
            return _named(hypothesis, language)
        return _named(await self._transcribe(server, findings, pcm, context, language), language)

    async def _transcribe(
        self, server: Server, findings: Findings, pcm: Pcm, context: str, language: str | None
    ) -> Hypothesis:
        form = Form(
            model=findings.model,
            language=language,
            prompt=context if findings.prompt else "",
            verbose=findings.verbose and (findings.words or language is None),
            words=findings.words,
            vllm=findings.vllm,
        )
        body = wire.transcription_request(form, pcm)
        hypothesis = wire.read_transcription(await self._client.post(f"{server.url}/audio/transcriptions", **body))
        if findings.words and hypothesis.words is None:
            raise Broken("its answer has no word times")
        return hypothesis


def _named(hypothesis: Hypothesis, language: str | None) -> Hypothesis:
    """Where the language was asked for, that is the one that was heard."""
    if language is None or hypothesis.language == language:
        return hypothesis
    return replace(hypothesis, language=language)


@asynccontextmanager
async def factory(settings: Mapping[str, str]) -> AsyncIterator[Recognizer]:
    """The servers, probed; those that do not answer yet are taken in when they do.

    Args:
        settings: as ``UpstreamSettings`` has them.

    Raises:
        ValueError: a setting is missing or wrong.
    """
    parsed = UpstreamSettings.parse(settings)
    headers = {"Accept-Encoding": "identity", "User-Agent": "qasr"}
    if parsed.api_key:
        headers["Authorization"] = f"Bearer {parsed.api_key}"
    async with httpx2.AsyncClient(
        headers=headers,
        verify=_tls(),
        timeout=httpx2.Timeout(parsed.timeout_s, connect=parsed.connect_timeout_s),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=IDLE_S),
        trust_env=False,  # a proxy meant for downloads would see all speech, and the key
    ) as http:
        client = UpstreamClient(http, timeout_s=parsed.timeout_s, connect_timeout_s=parsed.connect_timeout_s)
        async with Servers(
            parsed.urls,
            concurrency=parsed.concurrency,
            probe=partial(probe, client, settings=parsed),
            look=partial(list_models, client),
            every_s=parsed.health_s,
        ) as servers:
            yield Upstream(servers, client, parsed)


@cache
def _tls() -> ssl.SSLContext:
    """Reading the certificates takes long enough to do it once."""
    return httpx2.create_ssl_context()
