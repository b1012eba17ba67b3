"""The rolling restart: what readers notice when processes are renewed one by one."""

import asyncio

import pytest

from fleet.cluster import Cluster
from fleet.edge import MISSING
from fleet.readers import Readers
from fleet.rolling import Procedure, faults, told
from tests.load import FULL

pytestmark = [
    pytest.mark.skipif(MISSING, reason="nginx or openssl is not installed"),
    pytest.mark.timeout(180),
]


async def test_nobody_notices_anything_where_nothing_is_restarted() -> None:
    """The procedure itself loses and invents nothing: with one process, every reader's history is without fault."""

    class Undisturbed(Procedure):
        async def _restarts(self, cluster: Cluster, readers: Readers) -> None:
            await asyncio.sleep(1.0)
            self.outlasted = readers.reading

    procedure = Undisturbed(1, 40, length_s=5.0)
    found = await procedure.run()
    assert faults(found, procedure.outlasted) == [], told(found, procedure.outlasted)
    assert (found.streams, found.ended, found.lost, found.calls, found.cuts) == (40, 40, 0, 40, 0)


@pytest.mark.skipif(not FULL, reason="40 s; the cluster's own rolling restart is always run")
async def test_nobody_loses_or_repeats_anything_when_two_processes_are_renewed() -> None:
    """Every answer outlasts the restarts, is whole to the byte in every reader's hands, and no answer is not 200."""
    procedure = Procedure(2, 100)
    found = await procedure.run()
    assert faults(found, procedure.outlasted) == [], told(found, procedure.outlasted)
    assert (found.ended, found.lost, found.repeated) == (100, 0, 0)
    assert procedure.outlasted == 100
    assert found.continued > 0
