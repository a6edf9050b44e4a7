"""The composition root: settings → engines → service → faces → ASGI application. The one file that knows every room."""

import ipaddress
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from importlib.metadata import distributions
from typing import Final

import anyio
import structlog
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from qasr import catalogue, config
from qasr.config import Settings
from qasr.domain import telemetry
from qasr.domain.access import LIMITS, Allowance, Caller, Limits, Scope
from qasr.domain.errors import InvalidParameter
from qasr.domain.live import LiveOptions, LiveSession
from qasr.domain.task import Task
from qasr.domain.use import use_of
from qasr.engines.room import DEFAULT, EngineRoom
from qasr.faces import admin, dashscope, health, onemin, openai, openapi
from qasr.faces.gate import Gate
from qasr.faces.http import Bodies, ReadToTheEnd, RequestIds, SafeHeaders, TrailingSlashes, sleep_until_cancelled
from qasr.faces.keys import Keys
from qasr.faces.metrics import Readers, Watched
from qasr.faces.metrics import routes as metrics_routes
from qasr.faces.names import OwnNames
from qasr.faces.sockets import Ears, LiveContext, Sockets
from qasr.faces.sockets import Limits as SocketLimits
from qasr.faces.unknown import handlers
from qasr.jobs.dbos import durable
from qasr.jobs.desk import GRACE_S, Desk
from qasr.jobs.port import Work
from qasr.jobs.reaper import BEAT_S, MEND_S, Keeper
from qasr.jobs.webhook import Courier, derived_secret
from qasr.jobs.workflow import Perform
from qasr.metrics import Metrics
from qasr.pipeline.decode import Decoder
from qasr.pipeline.fetch import Fetcher, FetchPolicy
from qasr.pipeline.filed import Filed
from qasr.pipeline.flow import background
from qasr.pipeline.live import LiveLimits
from qasr.pipeline.live_decode import LiveDecoders
from qasr.selection import Selection
from qasr.service import Service
from qasr.storage.assets import Assets, Records
from qasr.storage.books import Books
from qasr.storage.buckets import MemoryBuckets, SharedBuckets
from qasr.storage.callbacks import Callbacks
from qasr.storage.database import FILE, Database, create_engine, url_in
from qasr.storage.executors import Executors, stable_id
from qasr.storage.keys import KeyRing, has_any
from qasr.storage.objects import Objects
from qasr.storage.quota import Quota
from qasr.storage.sessions import RENEW_S, MemorySessions, SharedSessions
from qasr.storage.tasks import Tasks, now_ms
from qasr.storage.transcripts import Transcripts
from qasr.storage.uploads import Uploads, server_secret
from qasr.storage.usage import FLUSH_S, UsageBook, day_of
from qasr.storage.vocabularies import Vocabularies
from qasr.workers import available_cpus

SWEEP_S: Final = 3600.0
DAY_MS: Final = 24 * 3600 * 1000
LAST_WORDS_S: Final = 5.0
"""For what was used and is not written yet, when the process is to end."""
AGAIN_S: Final = 5.0
"""Before doing tasks is tried again, when their database was away."""

LOOP_S: Final = 1.0
"""Between two looks at how late the event loop is."""
ABLE_S: Final = 10.0
"""How long tasks wait at the start for the speech engine; before others take a server that does none for dead."""
COUNT_S: Final = 5.0
"""Between two counts of the tasks."""
OTLP: Final = "opentelemetry-exporter-otlp-proto-http"

log = structlog.get_logger(__name__)


@asynccontextmanager
async def running(settings: Settings, *, serving: bool = False) -> AsyncIterator[Service]:
    """The service, for as long as the block lasts. Engines load beside it; ``service.problems`` tells how far.

    Args:
        settings: all of them.
        serving: take on and do tasks, and decode live sound; needs the data directory for itself.
    """
    spool = settings.data_dir / "spool"
    shutil.rmtree(spool, ignore_errors=True)  # left over from a crash: nobody can ask for it any more
    spool.mkdir(parents=True, mode=0o700)
    objects = Objects.open(settings.store.url, settings.data_dir / "objects")
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
        # First of all: models load in processes of their own, beside all that follows.
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
        database = quota = None
        if serving:
            database = await anyio.to_thread.run_sync(Database, url_in(settings.data_dir, settings.database.url))
            stack.callback(database.close)
            await anyio.to_thread.run_sync(database.migrate)
            most = settings.uploads
            quota = Quota(database, most_of_one=most.max_key_bytes, most=most.max_all_bytes)
        uploads = Uploads(
            objects,
            server_secret(settings.data_dir, settings.server.secret),
            max_bytes=settings.uploads.max_bytes,
            keep=timedelta(hours=settings.uploads.keep_hours),
            policy_s=settings.uploads.policy_s,
            quota=quota,
        )
        group.start_soon(sleep_until_cancelled, SWEEP_S, uploads.sweep)
        processes = settings.engines.decoders or min(available_cpus() + 1, 4)
        decoder = await stack.enter_async_context(Decoder(processes=processes))
        fetcher = await stack.enter_async_context(Fetcher(fetch))
        desk, books, vocabularies = None, None, None
        if database is not None and quota is not None:
            books = await stack.enter_async_context(_books(settings, database, objects, quota))
            vocabularies = Vocabularies(database)
            recordings = Filed(
                objects=objects,
                engines=engines,
                decoder=decoder,
                fetcher=fetcher,
                uploads=uploads,
                folder=settings.data_dir / "fetching",
                cuts=max(1, processes - 1),
            )
            desk = await stack.enter_async_context(_tasks(settings, database, books, recordings, fetch, engines.tried))
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
            vocabularies=vocabularies,
            sounds=sounds,
            books=books,
            live=LiveLimits(
                most_sessions=settings.live.most_sessions,
                queue_audio_s=settings.live.queue_audio_s,
                partial_ms=settings.live.partial_ms,
                session_s=settings.live.session_s,
            ),
            most_at_once=settings.server.most_at_once,
            most_waiting=settings.server.most_waiting,
        )


@asynccontextmanager
async def _books(settings: Settings, database: Database, objects: Objects, quota: Quota) -> AsyncIterator[Books]:
    """The books, written now and then, and once more at the end."""
    keep_ms = settings.onemin.keep_days * DAY_MS
    books = Books(
        keys=KeyRing(database),
        usage=UsageBook(database),
        buckets=MemoryBuckets() if database.is_sqlite else SharedBuckets(database),
        sessions=MemorySessions() if database.is_sqlite else SharedSessions(database),
        assets=Assets(database, objects, quota, keep_ms=keep_ms),
        records=Records(database, keep_ms=keep_ms),
    )

    async def forget() -> None:
        await books.usage.forget(day_of(now_ms() - settings.usage.keep_days * DAY_MS))

    try:
        async with background() as group:
            group.start_soon(sleep_until_cancelled, FLUSH_S, books.usage.flush)
            group.start_soon(sleep_until_cancelled, RENEW_S, books.sessions.renew)
            for sweep in (books.buckets.sweep, books.assets.sweep, books.records.sweep, quota.sweep, forget):
                group.start_soon(sleep_until_cancelled, SWEEP_S, sweep)
            yield books
    finally:
        with anyio.move_on_after(LAST_WORDS_S, shield=True):
            try:
                await books.usage.flush()
            except Exception:
                log.exception("usage_not_written")


@asynccontextmanager
async def _tasks(
    settings: Settings,
    database: Database,
    books: Books,
    recordings: Filed,
    calls: FetchPolicy,
    able: Callable[[], Awaitable[None]],
) -> AsyncIterator[Desk]:
    """The desk; behind it, once *able* is over, the durable engine and its keeper. *calls*: where webhooks may lead."""
    tasks = Tasks(database)
    desk = Desk(tasks, most_unfinished=settings.jobs.most_unfinished, webhook=settings.webhook.url)

    def note(task: Task) -> None:
        model = catalogue.built_in().family(task.order.model)
        books.usage.note(task.order.owner, model, Scope.DASHSCOPE, use_of(task))
        desk.ended(task.order.owner)

    perform = Perform(tasks, recordings, ended=note)

    async def work() -> None:
        with anyio.move_on_after(ABLE_S):
            await able()
        while not desk.is_stopping:
            try:
                await _do_tasks(settings, database, perform, recordings, desk)
            except Exception:  # the database is away, say; what was handed in is in its rows
                log.exception("tasks_failed", again_in_s=AGAIN_S)
            await anyio.sleep(AGAIN_S)

    async def call() -> None:
        given = settings.webhook.secret
        secret = given.encode() if given else derived_secret(server_secret(settings.data_dir, settings.server.secret))
        async with Fetcher(calls) as poster:  # of its own: downloads may take all connections of the other one
            await Courier(Callbacks(database), tasks, poster, secret=secret).work()

    async with background() as group:
        group.start_soon(work)
        group.start_soon(call)
        group.start_soon(sleep_until_cancelled, COUNT_S, desk.look)
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
    check_limits(settings)
    check_observers(settings)
    keys = Keys(settings.auth.keys, lambda: holder[0].books.keys, is_open=is_loopback(settings.server.host))
    bodies = Bodies(largest=settings.server.max_body_bytes, together=settings.server.max_bodies_bytes)
    names = catalogue.built_in()
    sockets = Sockets(SocketLimits(stalled_s=settings.live.stalled_s))
    metrics = Metrics()
    holder: list[Service] = []

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with observed(settings, metrics), running(settings, serving=True) as service:
            holder[:] = [service]  # kept after the end: who still asks is told that nothing can be served
            yield

    def service() -> Service:
        return holder[0]

    def ears(caller: Caller, interface: Scope) -> Ears:
        def live(options: LiveOptions, *, model: str) -> AbstractAsyncContextManager[LiveSession]:
            return gate.visit(caller, model, interface).live(options)

        return Ears(live=live, decode=service().live_sound)

    gate = Gate(service, allowance(settings.limits), names)
    live = LiveContext(
        sockets=sockets,
        ears=ears,
        session_s=settings.live.session_s,
        idle_s=settings.live.idle_s,
    )
    context = dashscope.Context(
        service=service,
        catalogue=names,
        keys=keys.within(Scope.DASHSCOPE),
        gate=gate,
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
                keys=keys.within(Scope.OPENAI),
                gate=gate,
                bodies=bodies,
                answer_s=settings.server.answer_s,
                spool=settings.data_dir / "spool",
                live=live,
            )
        ),
        *onemin.routes(
            onemin.Context(
                service=service,
                catalogue=names,
                keys=keys.within(Scope.ONEMIN),
                gate=gate,
                bodies=bodies,
                external_url=settings.server.external_url,
                answer_s=settings.server.answer_s,
                spool=settings.data_dir / "spool",
                max_asset_bytes=settings.onemin.max_asset_bytes,
            )
        ),
        *admin.routes(admin.Context(service=service, catalogue=names, keys=keys.within(Scope.ADMIN), bodies=bodies)),
        *openapi.routes(),
    ]
    if settings.metrics.access != "off":
        readers = Readers(access=settings.metrics.access, token=settings.metrics.token)
        routes += metrics_routes(service, metrics, readers, sockets, settings.data_dir)
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers())
    app.state.wind_down = lambda: service().wind_down()
    app.state.close_sockets = sockets.close
    app.state.is_complete = lambda: not (service().problems or service().troubles)
    app.router.redirect_slashes = False  # TrailingSlashes sees to them
    most_read = max(settings.server.max_body_bytes, 2 * settings.onemin.max_asset_bytes)
    app.add_middleware(ReadToTheEnd, most_bytes=most_read)
    app.add_middleware(Watched)
    app.add_middleware(TrailingSlashes)
    app.state.is_open = not settings.auth.keys and not has_keys(settings)
    if app.state.is_open:
        app.add_middleware(OwnNames, external_url=settings.server.external_url)
    app.add_middleware(RequestIds)
    app.add_middleware(SafeHeaders)
    return app


def allowance(limits: config.Limits) -> Allowance:
    """The limits of the settings."""

    def of(section: config.ModelLimits) -> Limits:
        return Limits(**{name: getattr(section, name) for name in LIMITS})

    return Allowance(total=of(limits), models={name: of(section) for name, section in limits.models.items()})


def check_limits(settings: Settings) -> None:
    """Refuse limits of models that there are not.

    Raises:
        InvalidParameter: with the name.
    """
    names = {model.name for model in catalogue.built_in().models}
    if unknown := sorted(set(settings.limits.models) - names):
        raise InvalidParameter(
            f"limits.models: {unknown[0]!r} is no name of the catalogue (docs/compat.md#model-names)"
        )


@asynccontextmanager
async def observed(settings: Settings, metrics: Metrics) -> AsyncIterator[None]:
    """What is told within the block is counted, and traced if that is set."""

    async def look_at_loop() -> None:
        while True:
            asked_s = anyio.current_time()
            await anyio.sleep(LOOP_S)
            metrics.loop_lagged(anyio.current_time() - asked_s - LOOP_S)

    async with AsyncExitStack() as stack:
        if settings.metrics.access != "off":
            stack.enter_context(telemetry.listening(metrics.take))
            group = await stack.enter_async_context(background())
            group.start_soon(look_at_loop)
        if settings.tracing.url is not None:
            from qasr.tracing import tracing  # noqa: PLC0415 - needs an extra

            sender = tracing(settings.tracing.url, service=settings.tracing.service, ratio=settings.tracing.ratio)
            stack.enter_context(telemetry.traced_by(await stack.enter_async_context(sender)))
        yield


def check_observers(settings: Settings) -> None:
    """Refuse metrics that nobody may read, and traces that cannot be made.

    Raises:
        InvalidParameter: with what to do.
    """
    if settings.metrics.access == "token" and settings.metrics.token is None:
        raise InvalidParameter("metrics.access is 'token', and metrics.token is not set: nobody could read the metrics")
    if settings.tracing.url is not None and not list(distributions(name=OTLP)):
        raise InvalidParameter("tracing.url is set, and OpenTelemetry is not installed: pip install 'qasr[otel]'")


def check_exposure(settings: Settings) -> None:
    """Refuse to listen to the world without a key.

    Raises:
        InvalidParameter: with what to do.
    """
    if settings.auth.keys or is_loopback(settings.server.host) or has_keys(settings):
        return
    raise InvalidParameter(
        f"binding to {settings.server.host} without an API key would let anybody in. Set one, for example\n"
        "  export QASR_AUTH__KEYS=sk-$(openssl rand -hex 16) && echo $QASR_AUTH__KEYS\n"
        "or make one with qasr keys create NAME,\n"
        "or bind to this machine only with --host 127.0.0.1."
    )


def has_keys(settings: Settings) -> bool:
    """Whether the database holds a key, or did."""
    if settings.database.url is None and not (settings.data_dir / FILE).exists():
        return False
    engine = create_engine(url_in(settings.data_dir, settings.database.url))
    try:
        return has_any(engine)
    finally:
        engine.dispose()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches *host*."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


__all__ = ["build", "check_exposure", "check_observers", "is_loopback", "running"]
