"""DashScope's SDK, the client of version 2: ``python examples/dashscope_v2.py FILE [SERVER]``."""

import sys
from pathlib import Path

import dashscope

recording, server = [*sys.argv[1:], "http://127.0.0.1:8000"][:2]

client = dashscope.Client(base_url=f"{server}/api/v1", api_key="any")
answer = client.chat.completions.create(
    model="qwen3-asr-flash",
    messages=[{"role": "user", "content": [{"audio": Path(recording).resolve().as_uri()}]}],
)
print(answer.choices[0].message.content)
