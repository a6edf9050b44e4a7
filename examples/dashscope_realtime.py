"""DashScope's SDK, speech while it is spoken: ``python examples/dashscope_realtime.py FILE [SERVER]``."""

import base64
import sys

import av
from dashscope.audio.qwen_omni import MultiModality, OmniRealtimeCallback, OmniRealtimeConversation

recording, server = [*sys.argv[1:], "http://127.0.0.1:8000"][:2]


class Printer(OmniRealtimeCallback):
    """Prints each utterance when it is complete; ``….text`` events tell earlier what is known of it."""

    def on_event(self, message: dict[str, str]) -> None:
        if message["type"] == "conversation.item.input_audio_transcription.completed":
            print(message["transcript"])


url = server.replace("http", "ws", 1) + "/api-ws/v1/realtime"
session = OmniRealtimeConversation("qwen3-asr-flash-realtime", Printer(), url=url, api_key="any")
session.connect()
session.update_session([MultiModality.TEXT], enable_turn_detection=False)  # we say where it ends
resampler = av.AudioResampler(format="s16", layout="mono", rate=16_000)
with av.open(recording) as container:
    for frame in container.decode(audio=0):
        for piece in resampler.resample(frame):
            session.append_audio(base64.b64encode(piece.to_ndarray().tobytes()).decode())
session.commit()
session.end_session()
session.close()
