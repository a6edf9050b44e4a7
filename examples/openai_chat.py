"""OpenAI's SDK, chat completions with a recording: ``python examples/openai_chat.py FILE [SERVER]``."""

import base64
import sys
from pathlib import Path

from openai import OpenAI

recording, server = [*sys.argv[1:], "http://127.0.0.1:8000"][:2]

client = OpenAI(base_url=f"{server}/compatible-mode/v1", api_key="any")
data = "data:;base64," + base64.b64encode(Path(recording).read_bytes()).decode()
content = [{"type": "input_audio", "input_audio": {"data": data}}]
chunks = client.chat.completions.create(
    model="qwen3-asr-flash", messages=[{"role": "user", "content": content}], stream=True
)
for chunk in chunks:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
