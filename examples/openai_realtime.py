"""OpenAI's SDK, speech while it is spoken: ``python examples/openai_realtime.py FILE [SERVER]``."""

import asyncio
import base64
import sys

import av
from openai import AsyncOpenAI

recording, server = [*sys.argv[1:], "http://127.0.0.1:8000"][:2]


async def main() -> None:
    """Sends the recording as a microphone would, only faster, and prints what is heard."""
    client = AsyncOpenAI(base_url=f"{server}/v1", api_key="any")
    async with client, client.realtime.connect(model="gpt-4o-transcribe") as session:
        await session.session.update(
            session={"type": "transcription", "audio": {"input": {"turn_detection": None}}}  # we say where it ends
        )
        resampler = av.AudioResampler(format="s16", layout="mono", rate=24_000)
        with av.open(recording) as container:
            for frame in container.decode(audio=0):
                for piece in resampler.resample(frame):
                    audio = base64.b64encode(piece.to_ndarray().tobytes()).decode()
                    await session.input_audio_buffer.append(audio=audio)
        await session.input_audio_buffer.commit()
        async for event in session:
            if event.type == "conversation.item.input_audio_transcription.completed":
                print(event.transcript)
                break


asyncio.run(main())
