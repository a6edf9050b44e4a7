"""What does this server honor? Asked when we first meet it, and each time it comes back.

It gets a second of faint noise by each way that the settings allow. What it refuses is not used, and if nothing is left
that was asked for, the server is not used at all, with the reason.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from qasr.domain.audio import SAMPLE_RATE, Pcm
from qasr.engines.upstream import wire
from qasr.engines.upstream.client import Absent, Broken, Refused, UpstreamClient
from qasr.engines.upstream.settings import UpstreamSettings
from qasr.engines.upstream.wire import Form, Listed, Telling

Way: TypeAlias = Literal["chat", "transcriptions"]

SOUND_AMPLITUDE: Final = 0.001
"""-60 dB: nobody takes it for speech, and it is not the digital silence that some models stumble over."""
LANGUAGE: Final = "en"
"""Asked for where the settings name none: there is hardly a model that does not know it."""
PROMPT: Final = "qasr"


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a server honors."""

    model: str
    vllm: bool
    chat: Telling = "none"
    transcriptions: bool = False
    verbose: bool = False
    words: bool = False
    language: bool = False
    """Transcriptions take a language."""
    prompt: bool = False
    """Transcriptions take a prompt."""

    def way(self, language: str | None) -> Way | None:
        """How to ask for speech in *language* (None: whichever it is); None: it cannot be asked for that.

        Chat completions where the language is to be found, for only they tell it; transcriptions where it is known, or
        where words need times.
        """
        if language is None:
            told = self.chat != "none" and not self.words
            return "chat" if told else "transcriptions" if self.transcriptions else None
        if self.transcriptions and self.language:
            return "transcriptions"
        return "chat" if self.chat == "annotated" and not self.words else None


async def list_models(client: UpstreamClient, url: str) -> list[Listed] | None:
    """What the server at *url* lists; None: it lists nothing, but it answers.

    Raises:
        Broken, Busy: it does not answer as it should.
    """
    try:
        return wire.read_models(await client.get(f"{url}/models"))
    except (Absent, Refused):
        return None


async def probe(client: UpstreamClient, url: str, settings: UpstreamSettings) -> Findings:
    """Look at the server at *url*.

    Raises:
        Broken: it does not answer, or it honors nothing that can be used; the message says what to do.
        Busy: it is to be asked later.
    """
    model = _choose(await list_models(client, url), settings.model)
    sound = _sound()
    telling: Telling = "none"
    if settings.mode != "transcriptions":
        telling = await _chat(client, url, model, sound)
        if telling == "plain" and settings.mode == "auto":
            telling = "none"  # it would rather talk than transcribe
    form = None
    if settings.mode != "chat":
        form = await _transcriptions(client, url, model, sound, settings)
    if form is None:
        if telling == "none":
            raise Broken(f"it transcribes by none of the ways of upstream.mode={settings.mode}", surely=True)
        return Findings(model=model.name, vllm=model.vllm, chat=telling)
    return Findings(
        model=model.name,
        vllm=model.vllm,
        chat=telling,
        transcriptions=True,
        verbose=form.verbose,
        words=form.words,
        language=form.language is not None,
        prompt=bool(form.prompt),
    )


def _choose(listed: list[Listed] | None, wanted: str) -> Listed:
    if listed is None:
        if not wanted:
            raise Broken("it lists no models; set upstream.model", surely=True)
        return Listed(wanted, vllm=False)
    if not listed:
        raise Broken("its list of models is empty", surely=True)
    if not wanted:
        return listed[0]
    for model in listed:
        if model.name == wanted:
            return model
    raise Broken("it does not list the model that upstream.model names", surely=True)


def _sound() -> Pcm:
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32)
    return np.asarray(noise * SOUND_AMPLITUDE, np.float32)


async def _chat(client: UpstreamClient, url: str, model: Listed, sound: Pcm) -> Telling:
    request = wire.chat_request(model.name, sound, PROMPT, None)
    try:
        _, telling = wire.read_chat(await client.post(f"{url}/chat/completions", **request))
    except (Refused, Absent):
        return "none"
    return telling


async def _transcriptions(
    client: UpstreamClient, url: str, model: Listed, sound: Pcm, settings: UpstreamSettings
) -> Form | None:
    """The fullest form that it takes; None: it takes none."""
    language = min(settings.languages) if settings.languages and LANGUAGE not in settings.languages else LANGUAGE
    full = {"language": language, "prompt": PROMPT}
    attempts: list[dict[str, Any]] = [full, {"language": language}, {"prompt": PROMPT}, {}]
    for verbose in (True, False):
        for fields in attempts:
            form = Form(
                model=model.name, verbose=verbose, words=verbose and settings.word_times, vllm=model.vllm, **fields
            )
            try:
                answer = await client.post(f"{url}/audio/transcriptions", **wire.transcription_request(form, sound))
            except Absent:
                return None
            except Refused:
                continue
            heard = wire.read_transcription(answer)
            if settings.word_times and heard.words is None:
                raise Broken("it gives no word times; unset upstream.word_times", surely=True)
            return form
    return None
