"""OpenAI's SDK, audio transcriptions: ``python examples/openai_transcriptions.py FILE [SERVER]``."""

import sys
from pathlib import Path

from openai import OpenAI

recording, server = [*sys.argv[1:], "http://127.0.0.1:8000"][:2]

client = OpenAI(base_url=f"{server}/v1", api_key="any")
print(client.audio.transcriptions.create(model="whisper-1", file=Path(recording)).text)
