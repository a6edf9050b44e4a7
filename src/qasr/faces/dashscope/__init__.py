"""DashScope's native interface: synchronous recognition in both dialects, tasks, live tasks, uploads, model lists."""

from qasr.faces.dashscope.context import Context
from qasr.faces.dashscope.inference_dialogue import Patience
from qasr.faces.dashscope.results import ResultLinks
from qasr.faces.dashscope.routes import routes

__all__ = ["Context", "Patience", "ResultLinks", "routes"]
