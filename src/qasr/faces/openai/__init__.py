"""OpenAI's interfaces: chat completions with ``input_audio``, ``audio/transcriptions``, model lists.

Served under ``/compatible-mode/v1`` (the vendor's own address) and ``/v1`` (where other clients look).
"""

from qasr.faces.openai.context import Context
from qasr.faces.openai.routes import routes

__all__ = ["Context", "routes"]
