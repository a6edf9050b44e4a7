"""Whatever strangers send: no hang, no crash, no failure of ours, nothing left behind."""

import base64
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.media import FORMATS, Media
from tests.safety.fuzz import TIMES, tried
from tests.server import KEY, KEYS, SCRIPTED, Server, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from qasr.domain.errors import InvalidParameter, NotFound, QasrError
from qasr.pipeline.fetch import Fetcher, FetchPolicy
from qasr.storage.objects import Objects
from qasr.storage.uploads import stored_key

Frame: TypeAlias = str | bytes

SOON_S: Final = 60.0
SECOND: Final = bytes(32_000)
LEAVES: Final = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
ANYTHING: Final = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
NOISE: Final = st.one_of(st.binary(max_size=4000), st.text(max_size=40), ANYTHING.map(json.dumps))

pytestmark = pytest.mark.timeout(180 * TIMES)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine that answers at once, small patience; in the end its log has no traceback."""
    limits = {"LIVE__IDLE_S": "5", "LIVE__NO_DATA_S": "5", "LIVE__MOST_SESSIONS": "8"}
    with serving(tmp_path_factory.mktemp("fuzz"), SCRIPTED | KEYS | limits) as running:
        yield running


# ---- WebSocket dialogues over real sockets


def inference_frames() -> st.SearchStrategy[Frame]:
    """Of the task protocol: often right, sometimes right at the wrong time, sometimes nonsense."""
    parameters = st.fixed_dictionaries(
        {"sample_rate": st.just(16_000) | LEAVES, "format": st.sampled_from(["pcm", "wav", "opus", "mp3"]) | LEAVES},
        optional={
            "max_sentence_silence": LEAVES,
            "vocabulary_id": LEAVES,
            "heartbeat": LEAVES,
            "language_hints": ANYTHING,
        },
    )
    payload = st.fixed_dictionaries(
        {"model": st.just("fun-asr-realtime") | LEAVES, "parameters": parameters, "input": st.just({}) | ANYTHING},
        optional={"task": st.just("asr"), "task_group": st.just("audio"), "function": st.just("recognition")},
    )
    header = st.fixed_dictionaries(
        {
            "task_id": st.just("a" * 32) | LEAVES,
            "action": st.sampled_from(["run-task", "finish-task", "continue-task"]),
        },
        optional={"streaming": st.just("duplex") | LEAVES},
    )
    built = st.builds(lambda head, body: json.dumps({"header": head, "payload": body}), header, payload)
    good = {
        "header": {"task_id": "b" * 32, "action": "run-task", "streaming": "duplex"},
        "payload": {
            "model": "fun-asr-realtime",
            "task": "asr",
            "task_group": "audio",
            "function": "recognition",
            "parameters": {"sample_rate": 16_000, "format": "pcm"},
            "input": {},
        },
    }
    return st.one_of(st.just(json.dumps(good)), st.just(SECOND), built, NOISE)


def realtime_frames() -> st.SearchStrategy[Frame]:
    """Of both realtime dialects."""
    names = st.sampled_from(
        [
            "session.update",
            "transcription_session.update",
            "input_audio_buffer.append",
            "input_audio_buffer.commit",
            "input_audio_buffer.clear",
            "session.finish",
            "response.create",
        ]
    )
    event = st.fixed_dictionaries(
        {"type": names},
        optional={"event_id": LEAVES, "session": ANYTHING, "audio": LEAVES, "input_audio_format": LEAVES},
    )
    sound = json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(SECOND).decode()})
    return st.one_of(st.just(sound), event.map(json.dumps), NOISE)


DIALOGUES: Final[dict[str, tuple[str, Callable[[], st.SearchStrategy[Frame]]]]] = {
    "dashscope inference": ("/api-ws/v1/inference", inference_frames),
    "dashscope realtime": ("/api-ws/v1/realtime?model=qwen3-asr-flash-realtime", realtime_frames),
    "openai realtime": ("/v1/realtime?intent=transcription", realtime_frames),
}


def opened(server: Server, path: str) -> ClientConnection:
    """A socket; the server may still be ending the sessions before."""
    url, headers = server.base.replace("http", "ws") + path, {"Authorization": f"Bearer {KEY}"}
    return connect(url, additional_headers=headers, open_timeout=SOON_S, close_timeout=SOON_S)


def converse(server: Server, path: str, frames: Sequence[Frame]) -> list[dict[str, Any]]:
    """Send all *frames*, then say goodbye; what the server said until it closed."""
    told: list[dict[str, Any]] = []
    with opened(server, path) as socket:
        with suppress(ConnectionClosed):
            for frame in frames:
                socket.send(frame)
                with suppress(TimeoutError):
                    while True:
                        told.append(json.loads(socket.recv(0.002)))
        socket.close()
        with suppress(ConnectionClosed):
            while True:
                told.append(json.loads(socket.recv(SOON_S)))
        assert socket.close_code is not None
        assert socket.close_code not in (1006, 1011), socket.close_reason
    return told


def open_files(server: Server) -> int:
    """Without those of databases: these are opened some time after the start, by as many threads as there is work."""
    names = [str(path.readlink()) for path in Path(f"/proc/{server.process.pid}/fd").iterdir() if path.is_symlink()]
    return sum(".db" not in name for name in names)


@pytest.mark.parametrize("name", DIALOGUES)
def test_any_conversation_ends_and_leaves_nothing(target: Server, name: str) -> None:
    """Frames of all kinds in any order: answers are JSON, the socket closes properly, and nothing of it is left."""
    path, frames = DIALOGUES[name]
    converse(target, path, [SECOND])  # what is loaded at first use is no leak
    before = open_files(target)

    @tried(25)
    @given(st.lists(frames(), max_size=8))
    def any_conversation(spoken: list[Frame]) -> None:
        assert all(isinstance(one, dict) for one in converse(target, path, spoken))

    any_conversation()

    end = time.monotonic() + SOON_S
    while open_files(target) > before + 4 and time.monotonic() < end:
        time.sleep(0.05)
    assert open_files(target) <= before + 4
    assert 200 == target.get("/readyz", key=None).status_code
    for _ in range(9):  # one more than there may be sessions at once: the others have ended
        converse(target, path, [])


# ---- media


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A way to damage a file: bytes changed, cut, doubled or moved."""
    share = st.floats(0, 1, exclude_max=True)
    changes = draw(st.lists(st.tuples(share, st.integers(0, 255)), max_size=20))
    cut, piece = draw(st.none() | share), draw(st.none() | st.tuples(share, share, share))
    head_only = draw(st.booleans())

    def damage(data: bytes) -> bytes:
        found = bytearray(data)
        for at, value in changes:
            found[int(at * (min(len(found), 512) if head_only else len(found)))] = value
        if piece is not None:
            first, second, place = (int(at * len(found)) for at in piece)
            found[place:place] = found[min(first, second) : max(first, second)]
        if cut is not None:
            del found[int(cut * len(found)) :]
        return bytes(found)

    return damage


def test_any_damaged_file_is_heard_or_refused(target: Server, media: Media) -> None:
    """Real files of all formats, damaged: text or a refusal in shape, in time; the decoders live or are replaced."""
    files = {name: media.format(name).read_bytes() for name in FORMATS}

    @tried(60)
    @given(st.sampled_from(sorted(files)), damages())
    def any_damage(name: str, damage: Callable[[bytes], bytes]) -> None:
        answer = httpx2.post(
            f"{target.base}/v1/audio/transcriptions",
            files={"file": (f"a.{name}", damage(files[name]))},
            data={"model": "whisper-1"},
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=SOON_S,
        )

        assert answer.status_code in (200, 400, 413), answer.text
        assert isinstance(answer.json(), dict)

    any_damage()

    assert [] == target.spooled
    answer = target.post(
        "/v1/audio/transcriptions", files={"file": ("a.wav", files["wav"])}, data={"model": "whisper-1"}
    )
    assert "lasting" in answer.json()["text"]


# ---- addresses and names

SCHEMES: Final = st.sampled_from(["http", "https", "HTTP", "file", "ftp", "gopher", "oss", "", "http:"])
HOSTS: Final = st.sampled_from(
    ["127.0.0.1", "0x7f.1", "2130706433", "[::1]", "[::ffff:10.0.0.1]", "localhost", "a@127.0.0.1", "169.254.169.254"]
) | st.text(max_size=12)
URLS: Final = st.builds(
    "{}://{}{}{}".format, SCHEMES, HOSTS, st.sampled_from(["", ":80", ":x", ":99999"]), st.text(max_size=20)
)


@pytest.mark.anyio
async def test_any_address_is_refused_or_public(tmp_path: Path) -> None:
    """No text makes the fetcher connect to where it may not, or raise anything but a refusal. Names resolve inwards."""
    asked: list[str] = []

    async def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["10.1.2.3"]

    async with Fetcher(FetchPolicy(total_timeout_s=5), resolve=resolve) as fetcher:

        async def fetch(url: str) -> None:
            with pytest.raises(QasrError):
                async with fetcher.fetch(url, tmp_path, max_bytes=1000):
                    pass

        for url in examples(URLS, 300 * TIMES):
            await fetch(url)

    assert asked
    assert [] == everything(tmp_path)


def everything(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def examples(strategy: st.SearchStrategy[str], n: int) -> list[str]:
    """So many of them, outside of a test that is itself repeated."""
    found: list[str] = []

    @tried(n // TIMES)
    @given(strategy)
    def note(one: str) -> None:
        found.append(one)

    note()
    return found


KEYS_OF_STRANGERS: Final = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(["..", ".", "a", "", "/", "\\", "%2e%2e", "\0", "~", "C:", "🎤", "results"])).map(
        "/".join
    ),
)


def test_no_key_of_a_stranger_leaves_the_store(tmp_path: Path) -> None:
    """Whatever a form names its file: it is refused, or lies in the folder of its policy under a name of ours."""
    (tmp_path / "recording").write_bytes(b"x")

    @tried(150)
    @given(KEYS_OF_STRANGERS, KEYS_OF_STRANGERS)
    def any_key(folder: str, name: str) -> None:
        try:
            key = stored_key(f"{folder}/{name}")
        except InvalidParameter:
            return
        made_folder, _, made = key.rpartition("/")
        assert f"{folder}/{name}".startswith(f"{made_folder}/")
        assert set(made) <= set("0123456789abcdef")
        assert ".." not in key

    any_key()


@pytest.mark.anyio
async def test_no_key_at_all_leaves_the_store(tmp_path: Path) -> None:
    """One floor below: keys that are not of our making reach neither folder nor file outside, not even to look."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    objects = Objects.open(None, tmp_path / "objects")
    before = everything(tmp_path)
    for key in examples(KEYS_OF_STRANGERS, 150):
        for path in (key, f"../outside/{key}", f"a/../../{key}"):
            with suppress(NotFound):
                assert b"secret" != await objects.read(path)
            with suppress(NotFound):
                await objects.delete(path)

    assert before == everything(tmp_path)
