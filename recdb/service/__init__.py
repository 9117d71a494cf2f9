"""recdb over HTTP, for programs that do not connect to PostgreSQL; needs the extra `serve`."""

from recdb.service.app import create_app
from recdb.service.server import serve

__all__ = ["create_app", "serve"]
