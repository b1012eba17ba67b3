"""Readership: who reads which stream, here and in other processes, and which streams nobody reads."""

from collections import defaultdict

from gateway.request import Caller
from gateway.streams.stream import Stream


class Readership:
    """Counts readers by the stream's name: a stream may change its log, and its readers go on in the new one."""

    def __init__(self) -> None:
        self._here: dict[str, int] = {}
        self._elsewhere: dict[str, set[str]] = {}
        self._orphans: defaultdict[tuple[Caller, str], set[str]] = defaultdict(set)

    def join(self, sid: str) -> bool:
        """One more reads it here; whether it is the first."""
        count = self._here[sid] = self._here.get(sid, 0) + 1
        return count == 1

    def leave(self, sid: str) -> bool:
        """One less reads it here; whether it was the last."""
        left = self._here.pop(sid) - 1
        if left:
            self._here[sid] = left
        return not left

    def elsewhere(self, sid: str, process: str, *, reading: bool) -> None:
        """Another process reads it for its clients, or does so no longer."""
        processes = self._elsewhere.setdefault(sid, set())
        if reading:
            processes.add(process)
        else:
            processes.discard(process)
        if not processes:
            del self._elsewhere[sid]

    def gone(self, process: str) -> list[str]:
        """Nobody reads in that process any more; the streams that were read there."""
        read = [sid for sid, processes in self._elsewhere.items() if process in processes]
        for sid in read:
            self.elsewhere(sid, process, reading=False)
        return read

    def any(self, sid: str) -> bool:
        """Whether anybody reads it."""
        return sid in self._here or sid in self._elsewhere

    def here(self, sid: str) -> bool:
        """Whether anybody reads it in this process."""
        return sid in self._here

    def ended(self, stream: Stream) -> None:
        """Who reads it elsewhere is of no interest any more."""
        self._elsewhere.pop(stream.sid, None)
        self.adopted(stream)

    def orphaned(self, stream: Stream) -> None:
        """Nobody reads it: its session, if it has one, may supersede it."""
        if stream.request.session_id is not None:
            self._orphans[stream.owner, stream.request.session_id].add(stream.sid)

    def adopted(self, stream: Stream) -> None:
        """It is no orphan, or no longer."""
        if stream.request.session_id is None:
            return
        name = (stream.owner, stream.request.session_id)
        orphans = self._orphans.get(name)
        if orphans is not None:
            orphans.discard(stream.sid)
            if not orphans:
                del self._orphans[name]

    def superseded(self, owner: Caller, session_id: str) -> set[str]:
        """The orphans of a session that asks something new; they are its orphans no more."""
        return self._orphans.pop((owner, session_id), set())
