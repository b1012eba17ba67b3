"""A real nginx around the shipped configuration, for tests; how it is rendered and run stands in `fleet.edge`."""

import json
from typing import Any

from fleet import edge
from fleet.children import free_port
from fleet.edge import MISSING, SHIPPED, check, make_certificate, render

__all__ = ["MISSING", "SHIPPED", "Nginx", "check", "free_port", "make_certificate", "render"]


class Nginx(edge.Nginx):
    """One nginx between `with` and its end, and what it has logged."""

    def requests(self) -> list[dict[str, Any]]:
        """The access log so far, one object a request; nginx writes a line when a request has ended."""
        return [json.loads(line) for line in self.access_log.read_text().splitlines()]
