"""Addresses of streams, and how their passwords are kept out of files, names and messages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "tcp", "srt")
HIDDEN = "***"

_START = re.compile(rf"[a-z][a-z0-9+.-]*:/+|\b(?:{'|'.join(SCHEMES)})\b[:;,/\\]+", re.IGNORECASE)
_BARE_LOGIN = re.compile(r"[^\s/\\:@=]+:[^\s/\\@]*@")  # an address without its scheme: user:password@host
_LOGIN_IN_PATH = re.compile(r"(?<=[^/]/)[^/:]+:[^/]+")  # http://host/0/user:password/main
_PORT = re.compile(r"[^:]*:[0-9]+")
_SECRET = re.compile(
    r"((?:pass(?:wor[dt]|wd|phrase|code|wort)?|pas|psw|pwd|(?<![a-z])pw|(?<![a-z])pin|token|key|auth(?:orization)?"
    r"|secret|(?<![a-z])sig|signature|cred(?:ential)?s?|session(?:_?id)?|jwt)(?:=|%3d))",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """An address with ``***`` for its user and password, and for the values of parameters that name a secret.

    Where it is not clear what belongs to a password, more is masked rather than less. Any other text, such as a path,
    is returned as it is.

    Args:
        text: one address, also a malformed one (``rtsp:/user:password@host``), or anything else.
    """
    start = _START.search(text)
    if start:
        text = text[: start.end()] + _without_login(text[start.end() :])
    else:
        text = _BARE_LOGIN.sub(f"{HIDDEN}@", text, count=1)
    address, sign, query = text.partition("?")
    if start:
        address = _LOGIN_IN_PATH.sub(HIDDEN, address)
    return _without_secrets(address, r"_[a-z]+=|[&;/#]") + sign + _without_secrets(query, "&")


def masked_in(message: str, texts: Iterable[str]) -> str:
    """A message in which each of the texts that it quotes is masked, also where it quotes them as paths."""
    for text in texts:
        hidden = masked(text)
        if hidden != text:
            for quoted in (text, repr(text)[1:-1], str(Path(text))):  # a path has one slash where the text has two
                message = message.replace(quoted, hidden)
    return message


def _without_login(rest: str) -> str:
    """What follows ``scheme://``, without the user and the password; these may hold ``/``, ``@``, ``?`` and ``#``."""
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    end = rest.rfind("@")
    query = re.search(r"\?[\w.-]+=", rest)
    if query and end > query.start() and ("@" in rest[: query.start()] or ":" not in host or _PORT.fullmatch(host)):
        end = rest.rfind("@", 0, query.start())  # the later one belongs to a value of the query
    if end < 0 and ":" in host and not (_PORT.fullmatch(host) or host.startswith("[")):  # user:password without a host
        return f"{host.partition(':')[0]}:{HIDDEN}{rest[len(host) :]}"
    if end < 0 or ("@" not in host and ":" not in host):
        return rest
    return f"{HIDDEN}@{rest[end + 1 :]}"


def _without_secrets(text: str, stop: str) -> str:
    """The text with each secret parameter's value masked, up to what matches ``stop``."""
    done = ""
    while found := _SECRET.search(text):
        rest = text[found.end() :]
        end = re.search(stop, rest, re.IGNORECASE)
        done += text[: found.end()] + HIDDEN
        text = rest[end.start() :] if end else ""
    return done + text
