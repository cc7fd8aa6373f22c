"""How a device is named (``http://device:8765``), alone or behind a target, and where its token comes from."""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nas.errors import NasError, one_line
from nas.target import Target

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8765
TOKEN_VARIABLE = "NAS_TOKEN"
# Shorter ones could be guessed.
SHORTEST_TOKEN = 16

_TOKEN_HINT = f"set {TOKEN_VARIABLE} in the environment, or name a file that holds it by --token-file"
_EXAMPLE = f"write http://DEVICE:{DEFAULT_PORT}, such as http://raspberry-pi:{DEFAULT_PORT}"


@dataclass(frozen=True)
class Address:
    """Where an agent answers.

    Args:
        scheme: ``http``, or ``https`` where something in front of the agent encrypts.
        host: A name or number.
        port: Its port.
    """

    scheme: str
    host: str
    port: int

    @property
    def url(self) -> str:
        """The text that ``parse`` reads."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads ``http://HOST[:PORT]``, whose port is 8765 where it is left out, or ``https://HOST[:PORT]``.

        Raises:
            NasError: It is no such address, or holds more than host and port.
        """
        try:
            parts = urllib.parse.urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise NasError(f"'{text}' is no device's address: {one_line(error)}", _EXAMPLE) from None
        if parts.username is not None or parts.password is not None:
            raise NasError(
                "a device's address must hold no user or password: others on this machine can read it", _TOKEN_HINT
            )
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or not re.fullmatch(r"[\w.:%-]+", parts.hostname)
        ):
            raise NasError(f"'{text}' is no device's address", _EXAMPLE)
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise NasError(f"a device's address is host and port alone, but got '{text}'", _EXAMPLE)
        return cls(parts.scheme, parts.hostname, port or (DEFAULT_PORT if parts.scheme == "http" else 443))


def is_remote(text: str) -> bool:
    """Whether a target's text names a device: ``http://device:8765``, or ``onnxruntime-cpu-1t-b1@http://device:8765``."""
    return "://" in text


def split_targets(texts: Iterable[str]) -> tuple[list[Target], Address | None]:
    """What to measure on, and the device to do it: None for this machine.

    Each text is a target, a device, or ``TARGET@DEVICE``. One command measures in one place, so a device that is named
    once is where all of them are measured.

    Raises:
        RecipeError: A target is none.
        NasError: An address is none, or there are two.
    """
    targets: list[Target] = []
    devices: dict[str, Address] = {}
    for text in texts:
        name, at, url = text.strip().rpartition("@") if is_remote(text) else (text, "", "")
        if at and not is_remote(url):  # the @ stands in the address itself, which refuses it
            name, url = "", text.strip()
        if url:
            device = Address.parse(url)
            devices[device.url] = device
        if name:
            targets.append(Target.parse(name))
    if len(devices) > 1:
        raise NasError(f"one command measures on one device, but got {' and '.join(devices)}", "run it once for each")
    return targets, next(iter(devices.values()), None)


def read_token(file: Path | None, environment: Mapping[str, str] | None = None) -> str | None:
    """The token in a file, else in the variable ``NAS_TOKEN``; None where there is neither.

    Raises:
        NasError: The file cannot be read, or what is there is no token.
    """
    if file is not None:
        try:
            text, where = file.read_text(encoding="utf-8"), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise NasError(f"the token file {file} cannot be read: {one_line(error)}") from None
    else:
        found = (os.environ if environment is None else environment).get(TOKEN_VARIABLE)
        if found is None:
            return None
        text, where = found, TOKEN_VARIABLE
    token = text.strip()
    if len(token) < SHORTEST_TOKEN or not re.fullmatch(r"[!-~]+", token):
        raise NasError(
            f"a token has at least {SHORTEST_TOKEN} letters, digits or signs, which what {where} holds has not",
            "name the one that the agent printed; python -c 'import secrets; print(secrets.token_urlsafe())' makes one",
        )
    return token


def needed_token(file: Path | None, address: Address) -> str:
    """The token for a device.

    Raises:
        NasError: There is none, or the file cannot be read.
    """
    token = read_token(file)
    if token is None:
        raise NasError(f"the agent at {address.url} wants its token, but none is given", _TOKEN_HINT)
    return token
