"""DashScope's native interface: synchronous recognition in both dialects, tasks, uploads, model lists."""

from qasr.faces.dashscope.context import Context
from qasr.faces.dashscope.results import ResultLinks
from qasr.faces.dashscope.routes import routes

__all__ = ["Context", "ResultLinks", "routes"]
