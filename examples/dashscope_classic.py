"""DashScope's SDK, classic interface: ``python examples/dashscope_classic.py FILE [SERVER]``."""

import sys
from pathlib import Path

import dashscope

recording, server = [*sys.argv[1:], "http://127.0.0.1:8000"][:2]

dashscope.base_http_api_url = f"{server}/api/v1"
answer = dashscope.MultiModalConversation.call(
    model="qwen3-asr-flash",
    api_key="any",
    messages=[{"role": "user", "content": [{"audio": Path(recording).resolve().as_uri()}]}],
)
print(answer.output.choices[0].message.content[0]["text"])
