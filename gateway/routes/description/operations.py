"""Every public route, described; the application's own table is compared with it by a test."""

from gateway.routes.description.operation import Operation
from gateway.routes.description.others import AROUND
from gateway.routes.description.streams import STREAMS

OPERATIONS: tuple[Operation, ...] = (*STREAMS, *AROUND)
