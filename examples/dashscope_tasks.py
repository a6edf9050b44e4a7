"""DashScope's SDK, a recording of up to 12 hours as a task: ``python examples/dashscope_tasks.py FILE [SERVER]``."""

import sys
from pathlib import Path

import dashscope
import requests
from dashscope.audio.asr import Transcription
from dashscope.utils.oss_utils import upload_file

recording, server = [*sys.argv[1:], "http://127.0.0.1:8000"][:2]

dashscope.base_http_api_url, dashscope.api_key = f"{server}/api/v1", "any"
url = upload_file("fun-asr", Path(recording).resolve().as_uri(), "any")  # or any address that the server may read
task = Transcription.async_call(model="fun-asr", file_urls=[url])
answer = Transcription.wait(task)
document = requests.get(answer.output.results[0]["transcription_url"], timeout=60).json()
print(document["transcripts"][0]["text"])
