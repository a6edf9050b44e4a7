"""Where checkpoints come from: what a repository on a hub holds, and how each of its files is fetched.

Hugging Face is asked through its own library, which knows mirrors (``HF_ENDPOINT``), keys (``HF_TOKEN``) and its own
offline mode (``HF_HUB_OFFLINE``); ModelScope by its documented HTTP interface, since its library weighs 69 MB and more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Final
from urllib.parse import quote, urlencode

import httpx2
import msgspec

from qasr import __version__
from qasr.catalogue.checkpoints import Checkpoint
from qasr.catalogue.store import File

TIMEOUT: Final = httpx2.Timeout(30.0)
MOST_FILES: Final = 10_000
"""Of a repository; checkpoints have tens."""


class HubFailed(Exception):
    """A hub could not be read, or does not have what is wanted; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A repository at one revision, as far as its files are wanted."""

    source: str
    """Such as ``hugging_face:Qwen/Qwen3-ASR-0.6B``."""
    revision: str
    license: str | None
    """As the hub tells it."""
    files: tuple[File, ...]
    addresses: Mapping[str, str]
    """By path."""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_bytes(self) -> int:
        """All of it."""
        return sum(file.n_bytes for file in self.files)


def hugging_face(checkpoint: Checkpoint, repository: str, revision: str | None) -> Remote:
    """What the hub of Hugging Face has of *checkpoint*.

    Raises:
        HubFailed.
    """
    import httpx  # noqa: PLC0415 - the library's own client; seconds on a small machine, and only for downloads
    from huggingface_hub import HfApi, hf_hub_url  # noqa: PLC0415
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled  # noqa: PLC0415
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # noqa: PLC0415

    try:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=30.0)
    except GatedRepoError as error:
        raise HubFailed(
            f"{repository} is given only to those who have accepted its terms on the hub; set HF_TOKEN to your key"
        ) from error
    except OfflineModeIsEnabled as error:
        raise HubFailed("HF_HUB_OFFLINE forbids to ask the hub") from error
    except (HfHubHTTPError, httpx.HTTPError, OSError, ValueError) as error:
        raise HubFailed(f"{repository} cannot be read: {_first_line(error)}") from error
    files = []
    for sibling in info.siblings or ():
        if sibling.size is None:
            raise HubFailed(f"{repository}: the hub does not tell the size of {sibling.rfilename}")
        sha256 = sibling.lfs.sha256 if sibling.lfs is not None else None
        git_sha1 = sibling.blob_id if sibling.lfs is None else None
        files.append(File(sibling.rfilename, sibling.size, sha256=sha256, git_sha1=git_sha1))
    if info.sha is None:
        raise HubFailed(f"{repository}: the hub does not tell the revision")
    wanted = _wanted(checkpoint, repository, files)
    license_ = info.card_data.license if info.card_data is not None else None
    return Remote(
        source=f"hugging_face:{repository}",
        revision=info.sha,
        license=license_ if isinstance(license_, str) else None,
        files=wanted,
        addresses={file.path: hf_hub_url(repository, file.path, revision=info.sha) for file in wanted},
        headers=build_hf_headers(library_name="qasr", library_version=__version__),
    )


class _Entry(msgspec.Struct, rename="pascal"):
    path: str
    type: str
    size: Annotated[int, msgspec.Meta(ge=0)] = 0
    sha256: str | None = None
    revision: str = ""


class _Entries(msgspec.Struct, rename="pascal"):
    files: list[_Entry]


class _Listing(msgspec.Struct, rename="pascal"):
    data: _Entries


def modelscope(checkpoint: Checkpoint, repository: str, revision: str | None, endpoint: str) -> Remote:
    """What ModelScope has of *checkpoint*.

    Raises:
        HubFailed.
    """
    wanted_revision = revision or "master"
    base = f"{endpoint.rstrip('/')}/api/v1/models/{quote(repository)}/repo"
    query = urlencode({"Revision": wanted_revision, "Recursive": "true"})
    try:
        answer = httpx2.get(f"{base}/files?{query}", timeout=TIMEOUT, follow_redirects=True)
        answer.raise_for_status()
        entries = msgspec.json.decode(answer.content, type=_Listing).data.files
    except (httpx2.HTTPError, msgspec.MsgspecError) as error:
        raise HubFailed(f"{repository} cannot be read: {_first_line(error)}") from error
    blobs = [entry for entry in entries if entry.type != "tree"]
    wanted = _wanted(checkpoint, repository, [File(e.path, e.size, sha256=e.sha256 or None) for e in blobs])
    paths = {file.path for file in wanted}
    # it dates files one by one: together these tell one state of the repository from another
    versions = sorted(f"{entry.path}@{entry.revision}" for entry in blobs if entry.path in paths)
    return Remote(
        source=f"modelscope:{repository}",
        revision=f"{wanted_revision} {' '.join(versions)}",
        license=None,
        files=wanted,
        addresses={
            path: f"{base}?{urlencode({'Revision': wanted_revision, 'FilePath': path})}" for path in sorted(paths)
        },
    )


def _wanted(checkpoint: Checkpoint, repository: str, files: list[File]) -> tuple[File, ...]:
    """Those of *files* that belong to the checkpoint."""
    if len(files) > MOST_FILES:
        raise HubFailed(f"{repository} holds more than {MOST_FILES} files")
    wanted = tuple(file for file in files if checkpoint.wants(file.path))
    if missing := checkpoint.missing({file.path for file in wanted}):
        raise HubFailed(f"{repository} does not hold a {checkpoint.name}: there is no {', '.join(missing)}")
    for file in wanted:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts or not file.path.isprintable():
            raise HubFailed(f"{repository} names a file {file.path!r}, which would lie elsewhere")
    return wanted


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
