"""The composition root: settings → engines → service → faces → ASGI application. The one file that knows every room."""

import ipaddress
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from datetime import timedelta
from functools import partial
from typing import Final

import anyio
import structlog
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from qasr import catalogue
from qasr.config import Settings
from qasr.domain.errors import InvalidParameter
from qasr.engines.room import DEFAULT, EngineRoom
from qasr.faces import dashscope, health, openai, openapi
from qasr.faces.http import (
    Bodies,
    Keys,
    ReadToTheEnd,
    RequestIds,
    SafeHeaders,
    TrailingSlashes,
    sleep_until_cancelled,
)
from qasr.faces.names import OwnNames
from qasr.faces.sockets import Ears, Limits, LiveContext, Sockets
from qasr.faces.unknown import handlers
from qasr.jobs.dbos import durable
from qasr.jobs.desk import GRACE_S, Desk
from qasr.jobs.port import Work
from qasr.jobs.reaper import BEAT_S, MEND_S, Keeper
from qasr.jobs.webhook import Courier, derived_secret
from qasr.jobs.workflow import Perform
from qasr.pipeline.decode import Decoder
from qasr.pipeline.fetch import Fetcher, FetchPolicy
from qasr.pipeline.filed import Filed
from qasr.pipeline.flow import background
from qasr.pipeline.live import LiveLimits
from qasr.pipeline.live_decode import LiveDecoders
from qasr.selection import Selection
from qasr.service import Service
from qasr.storage.callbacks import Callbacks
from qasr.storage.database import Database, create_engine, url_in
from qasr.storage.executors import Executors, stable_id
from qasr.storage.objects import Objects
from qasr.storage.tasks import Tasks
from qasr.storage.transcripts import Transcripts
from qasr.storage.uploads import Uploads, server_secret
from qasr.workers import available_cpus

SWEEP_S: Final = 3600.0
AGAIN_S: Final = 5.0
"""Before doing tasks is tried again, when their database was away."""

log = structlog.get_logger(__name__)


@asynccontextmanager
async def running(settings: Settings, *, serving: bool = False) -> AsyncIterator[Service]:
    """The service, for as long as the block lasts. Engines load beside it; ``service.problem`` tells how far.

    Args:
        settings: all of them.
        serving: take on and do tasks, and decode live sound; needs the data directory for itself.
    """
    spool = settings.data_dir / "spool"
    shutil.rmtree(spool, ignore_errors=True)  # left over from a crash: nobody can ask for it any more
    spool.mkdir(parents=True, mode=0o700)
    objects = Objects.open(settings.store.url, settings.data_dir / "objects")
    uploads = Uploads(
        objects,
        server_secret(settings.data_dir, settings.server.secret),
        max_bytes=settings.uploads.max_bytes,
        keep=timedelta(hours=settings.uploads.keep_hours),
        policy_s=settings.uploads.policy_s,
    )
    fetch = FetchPolicy(
        allow_hosts=frozenset(settings.fetch.allow_hosts),
        allow_networks=settings.fetch.allow_networks,
        connect_timeout_s=settings.fetch.connect_timeout_s,
        total_timeout_s=settings.fetch.total_timeout_s,
        idle_timeout_s=settings.fetch.idle_timeout_s,
        max_redirects=settings.fetch.max_redirects,
    )
    chosen = Selection.of(settings)
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(background())
        engines = await stack.enter_async_context(
            EngineRoom(
                chosen,
                beside=chosen.beside,
                preload=_preloaded(settings),
                idle_s=settings.engines.idle_s or None,
                memory_bytes=settings.engines.memory_mb * 10**6 or None,
                queue_audio_s=settings.engines.queue_audio_s,
                aligners=settings.engines.aligners,
            )
        )
        group.start_soon(sleep_until_cancelled, SWEEP_S, uploads.sweep)
        processes = settings.engines.decoders or min(available_cpus() + 1, 4)
        decoder = await stack.enter_async_context(Decoder(processes=processes))
        fetcher = await stack.enter_async_context(Fetcher(fetch))
        desk = None
        if serving:
            recordings = Filed(
                objects=objects,
                engines=engines,
                decoder=decoder,
                fetcher=fetcher,
                uploads=uploads,
                folder=settings.data_dir / "fetching",
            )
            desk = await stack.enter_async_context(_tasks(settings, recordings, fetch))
        sounds = None
        if serving:
            sounds = await stack.enter_async_context(LiveDecoders(processes=settings.live.decoders))
        yield Service(
            engines=engines,
            decoder=decoder,
            fetcher=fetcher,
            uploads=uploads,
            transcripts=Transcripts(objects),
            spool=spool,
            desk=desk,
            sounds=sounds,
            live=LiveLimits(
                most_sessions=settings.live.most_sessions,
                queue_audio_s=settings.live.queue_audio_s,
                partial_ms=settings.live.partial_ms,
                session_s=settings.live.session_s,
            ),
            most_waiting=settings.server.most_waiting,
        )


@asynccontextmanager
async def _tasks(settings: Settings, recordings: Filed, calls: FetchPolicy) -> AsyncIterator[Desk]:
    """The desk; behind it, some time later, the durable engine and its keeper. *calls*: where webhooks may lead."""
    database = Database(url_in(settings.data_dir, settings.database.url))
    await anyio.to_thread.run_sync(database.migrate)
    tasks = Tasks(database)
    desk = Desk(tasks, most_unfinished=settings.jobs.most_unfinished, webhook=settings.webhook.url)

    async def work() -> None:
        while True:
            try:
                await _do_tasks(settings, database, Perform(tasks, recordings), recordings, desk)
            except Exception:  # the database is away, say; what was handed in is in its rows
                log.exception("tasks_failed", again_in_s=AGAIN_S)
            await anyio.sleep(AGAIN_S)

    async def call() -> None:
        given = settings.webhook.secret
        secret = given.encode() if given else derived_secret(server_secret(settings.data_dir, settings.server.secret))
        async with Fetcher(calls) as poster:  # of its own: downloads may take all connections of the other one
            await Courier(Callbacks(database), tasks, poster, secret=secret).work()

    with closing(database):
        async with background() as group:
            group.start_soon(work)
            group.start_soon(call)
            yield desk


async def _do_tasks(settings: Settings, database: Database, work: Work, recordings: Filed, desk: Desk) -> None:
    """Do tasks until cancelled."""
    tasks, executors = Tasks(database), Executors(database)
    executor_id = settings.jobs.executor_id or stable_id(settings.data_dir)
    await executors.beat(executor_id)  # before anything is claimed in its name
    file = f"sqlite:///{(settings.data_dir / 'workflows.db').absolute()}"
    async with (
        durable(
            work,
            create_engine(file if settings.database.url is None else database.engine.url),
            executor_id=executor_id,
            concurrency=settings.jobs.concurrency,
            grace_s=GRACE_S,
        ) as engine,
        AsyncExitStack() as attached,
        anyio.create_task_group() as group,
    ):
        keep = timedelta(hours=settings.jobs.keep_hours)
        keeper = Keeper(tasks, executors, engine, recordings.forget, executor_id=executor_id, keep=keep)
        attached.callback(desk.detach)
        await desk.attach(engine)
        group.start_soon(sleep_until_cancelled, BEAT_S, keeper.reap)
        group.start_soon(sleep_until_cancelled, MEND_S, keeper.mend)
        group.start_soon(sleep_until_cancelled, SWEEP_S, keeper.expire)
        group.start_soon(sleep_until_cancelled, SWEEP_S, recordings.sweep)


def _preloaded(settings: Settings) -> tuple[str, ...]:
    """Names whose engines are loaded at the start."""
    match settings.engines.load:
        case "lazy":
            return ()
        case "default":
            return (DEFAULT,)
        case "eager":
            return (DEFAULT, *(model.name for model in catalogue.built_in().models))


def build(settings: Settings) -> Starlette:
    """The ASGI application.

    Raises:
        InvalidParameter: the settings would let strangers in, or name an engine that is not installed.
    """
    check_exposure(settings)
    Selection.of(settings).check()
    keys = Keys(settings.auth.keys)
    bodies = Bodies(largest=settings.server.max_body_bytes, together=settings.server.max_bodies_bytes)
    names = catalogue.built_in()
    sockets = Sockets(Limits(stalled_s=settings.live.stalled_s))
    holder: list[Service] = []

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with running(settings, serving=True) as service:
            holder[:] = [service]  # kept after the end: who still asks is told that nothing can be served
            yield

    def service() -> Service:
        return holder[0]

    live = LiveContext(
        sockets=sockets,
        ears=lambda: Ears(live=service().live, decode=service().live_sound),
        session_s=settings.live.session_s,
        idle_s=settings.live.idle_s,
    )
    context = dashscope.Context(
        service=service,
        catalogue=names,
        keys=keys,
        bodies=bodies,
        links=dashscope.ResultLinks(
            partial(server_secret, settings.data_dir, settings.server.secret),
            valid_s=int(settings.jobs.keep_hours * 3600),
        ),
        external_url=settings.server.external_url,
        answer_s=settings.server.answer_s,
        spool=settings.data_dir / "spool",
        live=live,
        patience=dashscope.Patience(
            data_s=settings.live.no_data_s, speech_s=settings.live.silence_s, task_s=settings.live.idle_s
        ),
    )
    routes: list[BaseRoute] = [
        *health.routes(service),
        *dashscope.routes(context),
        *openai.routes(
            openai.Context(
                service=service,
                catalogue=names,
                keys=keys,
                bodies=bodies,
                answer_s=settings.server.answer_s,
                spool=settings.data_dir / "spool",
                live=live,
            )
        ),
        *openapi.routes(),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers())
    app.state.wind_down = lambda: service().wind_down()
    app.state.close_sockets = sockets.close
    app.router.redirect_slashes = False  # TrailingSlashes sees to them
    app.add_middleware(ReadToTheEnd, most_bytes=settings.server.max_body_bytes)
    app.add_middleware(TrailingSlashes)
    if not settings.auth.keys:
        app.add_middleware(OwnNames, external_url=settings.server.external_url)
    app.add_middleware(RequestIds)
    app.add_middleware(SafeHeaders)
    return app


def check_exposure(settings: Settings) -> None:
    """Refuse to listen to the world without a key.

    Raises:
        InvalidParameter: with what to do.
    """
    if settings.auth.keys or is_loopback(settings.server.host):
        return
    raise InvalidParameter(
        f"binding to {settings.server.host} without an API key would let anybody in. Set one, for example\n"
        "  export QASR_AUTH__KEYS=sk-$(openssl rand -hex 16) && echo $QASR_AUTH__KEYS\n"
        "or bind to this machine only with --host 127.0.0.1."
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches *host*."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


__all__ = ["build", "check_exposure", "is_loopback", "running"]
