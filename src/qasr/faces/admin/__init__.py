"""The administration: keys and usage, for keys with the scope ``admin`` alone."""

from qasr.faces.admin.routes import Context, routes

__all__ = ["Context", "routes"]
