"""Sends llama.cpp's log to Python's logging, so that it never reaches standard output.

A child process speaks in JSON lines on standard output, and llama-cpp-python's own way to be quiet
points the file descriptors 1 and 2 at /dev/null for a while, which would lose events.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

logger = logging.getLogger("llama.cpp")

# ggml_log_level; 5 continues the line before.
_LEVELS = {1: logging.DEBUG, 2: logging.WARNING, 3: logging.ERROR, 4: logging.DEBUG}
_CONTINUES = 5
_RECENT_LINES = 40

_state: dict[str, Any] = {}
_recent: deque[str] = deque(maxlen=_RECENT_LINES)


def route_llama_log() -> None:
    """Install the route; calling it again costs nothing.

    llama.cpp's chatter becomes debug lines, its warnings and errors keep their level. Whatever it
    said last is kept for `last_llama_error`.
    """
    if _state:
        return
    import ctypes

    import llama_cpp

    def receive(level: int, text: bytes, _data: object) -> None:
        line = text.decode("utf-8", errors="replace")
        if level == _CONTINUES:
            return
        _recent.append(line.strip())
        logger.log(_LEVELS.get(level, logging.DEBUG), "%s", line.rstrip())

    # The callback object must outlive every call into the library: it is kept for good.
    _state["callback"] = llama_cpp.llama_log_callback(receive)
    llama_cpp.llama_log_set(_state["callback"], ctypes.c_void_p(0))


def last_llama_error() -> str:
    """The last line of llama.cpp that sounds like the cause of a failure, or an empty text."""
    for line in reversed(_recent):
        if any(word in line.lower() for word in ("error", "fail", "missing", "unknown", "invalid")):
            return line
    return ""
