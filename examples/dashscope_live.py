"""DashScope's SDK, live recognition: ``python examples/dashscope_live.py FILE [SERVER]``.

The file is sent as a microphone would send it, in frames of 100 ms, but as fast as it is taken.
"""

import sys

import av
import dashscope
from dashscope.audio.asr import Recognition, RecognitionCallback, RecognitionResult

recording, server = [*sys.argv[1:], "http://127.0.0.1:8000"][:2]
FRAME = 3200  # bytes: 100 ms of 16 kHz, 16 bit, mono


class Captions(RecognitionCallback):
    """Shows what is being said on stderr, and each sentence that has ended on stdout."""

    def on_event(self, result: RecognitionResult) -> None:
        sentence = result.get_sentence()
        if RecognitionResult.is_sentence_end(sentence):
            print(sentence["text"])
        else:
            print(sentence["text"], file=sys.stderr)

    def on_error(self, result: RecognitionResult) -> None:
        print(f"{result.code}: {result.message}", file=sys.stderr)


dashscope.base_websocket_api_url = server.replace("http", "ws", 1) + "/api-ws/v1/inference"
dashscope.api_key = "any"

recognition = Recognition(model="fun-asr-realtime", format="pcm", sample_rate=16_000, callback=Captions())
recognition.start()
resampler = av.AudioResampler(format="s16", layout="mono", rate=16_000, frame_size=FRAME // 2)
with av.open(recording) as container:
    for frame in [*container.decode(audio=0), None]:
        for piece in resampler.resample(frame):
            recognition.send_audio_frame(piece.to_ndarray().tobytes())
recognition.stop()
