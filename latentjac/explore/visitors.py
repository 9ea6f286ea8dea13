"""The sessions of all visitors, each known by a token that its browser keeps."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict

from latentjac.explore.session import Session
from latentjac.explore.state import Shared

MOST = 16
_TOKEN = re.compile(r"[0-9a-f]{32}")


class Visitors:
    """Sessions by token, at most ``MOST``: the one that was used least recently makes room for a new one.

    Args:
        shared: What all visitors share.
        most: How many sessions are kept.
    """

    def __init__(self, shared: Shared, most: int = MOST) -> None:
        self.shared = shared
        self._most = most
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def session(self, token: str) -> Session:
        """The session of a token; a new one where there is none, or none any more.

        Raises:
            ValueError: If the token is none that a page makes.
        """
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise ValueError("session: This page has lost its session; load it again.")
        with self._lock:
            session = self._sessions.pop(token, None) or Session(self.shared)
            self._sessions[token] = session
            gone = self._sessions.popitem(last=False)[1] if len(self._sessions) > self._most else None
        if gone is not None:
            gone.close()
        return session

    def close(self) -> None:
        """End what computes for any of them."""
        with self._lock:
            for session in self._sessions.values():
                session.close()
