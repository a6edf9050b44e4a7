"""The 1min.ai interface: assets are uploaded, and features are asked for about them; here, speech to text."""

from qasr.faces.onemin.context import Context
from qasr.faces.onemin.routes import routes

__all__ = ["Context", "routes"]
