"""Signed addresses of result documents: whoever has one may read it for a time, without a key, as from OSS.

``/results/<task>/<number>.json?Expires=<unix s>&Signature=<base64url>``. The signature covers the method (GET, and with
it HEAD), task, number and time.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable
from functools import cache
from time import time
from typing import Final
from urllib.parse import quote
from xml.sax.saxutils import escape

from qasr.domain.errors import AccessDenied, CapacityError, EngineError, EngineUnavailable, NotFound, QasrError

VALID_S: Final = 24 * 3600
"""Documented life of a link."""


class ResultLinks:
    """Makes addresses and checks them.

    Args:
        secret: called when it is first needed, and once.
        valid_s: life of a link, from the end of its task; as long as results are kept.
        clock: Unix seconds.
    """

    def __init__(
        self, secret: Callable[[], bytes], *, valid_s: int = VALID_S, clock: Callable[[], float] = time
    ) -> None:
        self._secret, self._valid_s, self._clock = cache(secret), valid_s, clock

    def link(self, base_url: str, task_id: str, number: int, *, ended_ms: int) -> str:
        """The address of the document of one recording; the same each time that it is asked for."""
        expires = str(ended_ms // 1000 + self._valid_s)
        signature = quote(self._sign(task_id, number, expires), safe="")
        return f"{base_url}/results/{quote(task_id, safe='')}/{number}.json?Expires={expires}&Signature={signature}"

    def check(self, task_id: str, number: int, expires: str, signature: str) -> None:
        """Look at an address.

        Raises:
            AccessDenied: we never made it, or its time is over.
        """
        if not hmac.compare_digest(self._sign(task_id, number, expires).encode(), signature.encode()):
            raise AccessDenied("The request signature we calculated does not match the signature you provided.")
        if self._clock() > int(expires):
            raise AccessDenied("Request has expired.")

    def _sign(self, task_id: str, number: int, expires: str) -> str:
        text = f"GET:result:{task_id}/{number}:{expires}".encode("utf-8", "surrogatepass")
        return base64.urlsafe_b64encode(hmac.digest(self._secret(), text, hashlib.sha256)).decode()


def to_wire(error: QasrError, request_id: str) -> tuple[int, bytes]:
    """XML, as OSS answers."""
    match error:
        case AccessDenied():
            status, code = 403, "AccessDenied"
        case NotFound():
            status, code = 404, "NoSuchKey"
        case CapacityError() | EngineUnavailable():
            status, code = 503, "ServiceUnavailable"
        case EngineError():
            status, code = 500, "InternalError"
        case _:
            status, code = 400, "InvalidArgument"
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Error>'
        f"<Code>{code}</Code><Message>{escape(str(error))}</Message><RequestId>{request_id}</RequestId></Error>"
    )
    return status, body.encode()
