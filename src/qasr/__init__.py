"""qasr: self-hosted speech-to-text behind the interfaces that clients already speak.

Read ``app.py`` for how the rooms are put together and ``pipeline/recorded.py`` for how hearing is done.
"""

from importlib.metadata import version

__version__ = version("qasr")
