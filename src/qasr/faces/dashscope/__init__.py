"""DashScope's native interface: synchronous recognition in both dialects, uploads, model lists."""

from qasr.faces.dashscope.routes import Context, routes

__all__ = ["Context", "routes"]
