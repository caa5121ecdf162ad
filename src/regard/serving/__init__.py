"""A model as an HTTP service: an API of JSON, a page that explains, and two APIs of others.

    service = build_service(regard.load("ende"))        # for any ASGI server, such as uvicorn

``regard serve`` runs it (`regard.serving.server`). It needs the extra ``[serve]``.
"""

from typing import TYPE_CHECKING

from regard.lazy import import_lazily

if TYPE_CHECKING:
    from regard.serving.limits import ServiceLimits
    from regard.serving.service import build_service

import_lazily(__name__)

__all__ = ["ServiceLimits", "build_service"]
