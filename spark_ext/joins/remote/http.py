"""Lookups over HTTP: what is asked, of whom, and how an answer is read within its limits of time and size."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address
from time import monotonic
from typing import Any, Final, Literal
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

import pyarrow as pa
import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, SSLError
from urllib3.exceptions import TimeoutError as Late
from urllib3.response import BaseHTTPResponse

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.joins.remote.answers import Answer, Reader, named
from spark_ext.joins.remote.failure import AskError, Failure
from spark_ext.joins.remote.limits import Limits
from spark_ext.joins.remote.remembered import Key
from spark_ext.joins.remote.values import check_type, to_json
from spark_ext.kafka.references import REFERENCE, is_secret, resolve

__all__ = ["HttpClient", "HttpLookup"]

OK: Final = 200
NO_CONTENT: Final = 204
NOT_FOUND: Final = 404
TRANSIENT: Final = {408, 425, 429, 500, 502, 503, 504}
CHUNK: Final = 1 << 16
DIGITS: Final = 20  # of a length that are looked at: more are too many in any case
KEYS: Final = "keys"
NOTHING: Final = b"[]"
PLACE: Final = re.compile(r"\{([^{}]*)\}")
SECRET: Final = re.compile(r"authorization|cookie|api[-_.]?key|access[-_.]?key|^x-auth|^key$|signature", re.IGNORECASE)
NO_PATH: Final = {"", ".", ".."}  # with one of these as a part a path leads elsewhere, also where a server decodes it first
SLASH: Final = re.compile(r"[/\\]")
PRINTABLE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True, slots=True)
class HttpLookup:
    """A service that answers for keys over HTTP.

    ``POST`` sends ``{"keys": [...]}``: the values of a single key column, or an object for each key of several. ``GET`` puts keys into
    the address: ``{keys}`` becomes the values of a single key column with commas between them, ``{id}`` the key column ``id``, one
    request a key. Dates, timestamps (UTC) and decimals go as text. The answer is a JSON array of objects with the fields of key and
    answer, any number for a key; a key without objects has no rows. With one key in the address an object may stand alone and without
    its key, and 404 means that there is none.

    Guarantee: TLS certificates are verified; redirects are not followed, so headers go to this address only; proxies that the
    environment names are not used.

    Attributes
    ----------
    url : str
        Address, ``https``; ``http`` on the loopback, or with `plain_http`. Without secrets: plans and errors show it.
    method : {"POST", "GET"}
        How keys are sent.
    headers : mapping of str to str
        Sent along. One that holds a secret, such as ``Authorization``, has it as a reference that is resolved where the request is
        made: ``Bearer ${env:TOKEN}`` or ``Bearer ${file:/run/secrets/token}``.
    ca_file : str, optional
        PEM file with the authorities to trust, on every worker; default is the system's.
    plain_http : bool
        Whether keys and answers may travel readable to another machine.
    limits : Limits
        How long, how often and how much is asked.

    Raises
    ------
    SettingsError
        The address, a header or the method cannot be used.

    Not supported: float and binary keys, client certificates, compressed answers, pages of an answer.
    """

    url: str
    method: Literal["POST", "GET"] = "POST"
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    ca_file: str | None = None
    plain_http: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", dict(self.headers))
        parts = _split(self.url)
        if parts.scheme != "https" and not self.plain_http and not _is_loopback(parts.hostname or ""):
            why, todo = "keys, answers and headers would travel readable", "use https, or say plain_http=True"
            raise SettingsError("use", "address", self.name, expected="https", got=parts.scheme, why=why, todo=todo)
        if self.method not in {"POST", "GET"}:
            raise SettingsError("use", "method", str(self.method), expected="POST or GET", got="another", todo="use one of them")
        for name, value in [*self.headers.items(), *parse_qsl(parts.query)]:
            if _is_secret(name) and (name not in self.headers or not REFERENCE.search(value)):
                expected = "a header with a reference such as ${env:TOKEN} or ${file:/run/secrets/token}"
                why = "settings are shown in plans and errors"
                todo = "put the secret into a variable or a file that every worker can read"
                raise SettingsError("use", "parameter", name, expected=expected, got="the secret itself", why=why, todo=todo)
            if "\n" in f"{name}{value}" or "\r" in f"{name}{value}":
                raise SettingsError("use", "header", name, expected="one line", got="several", todo="correct it")

    @property
    def name(self) -> str:
        """The address without what is asked, as errors show it."""
        return self.url.partition("?")[0]

    @property
    def places(self) -> tuple[str, ...]:
        """What is put into the address."""
        return tuple(dict.fromkeys(PLACE.findall(self.url)))

    def check(self, keys: pa.Schema, returns: pa.Schema) -> None:
        """Refuse keys and answers that this service cannot be asked for.

        Raises
        ------
        SchemaError
            A key is a float or not a plain value, or an answer is of a type that JSON has no values for.
        SettingsError
            The address has not the places for these keys, or has some where they are sent otherwise.
        """
        for one in keys:
            if pa.types.is_floating(one.type) or pa.types.is_nested(one.type):
                expected, todo = "text, a boolean, an integer, a decimal, a date or a timestamp", "look up by another column"
                raise SchemaError("look up by", "key", one.name, expected=expected, got=str(one.type), todo=todo)
        for one in (*keys, *returns):
            check_type(one.name, one.type)
        wanted = [set()] if self.method == "POST" else [set(keys.names), *([{KEYS}] if len(keys) == 1 else [])]
        if set(self.places) not in wanted:
            expected = " or ".join(repr(sorted(one)) for one in wanted)
            raise SettingsError(
                "use", "address", self.name, expected=f"the places {expected}", got=repr(list(self.places)), todo="correct the address"
            )

    def connect(self, keys: pa.Schema, returns: pa.Schema) -> HttpClient:
        """Return the client of this process; nothing is sent yet."""
        return HttpClient(self, keys, returns)


class HttpClient:
    """Asks a service over a connection that is kept.

    Parameters
    ----------
    source : HttpLookup
        What to ask.
    keys, returns : pa.Schema
        Types of key and answer, by the names that the service gives them.
    clock : callable
        Seconds that only go up.
    """

    def __init__(self, source: HttpLookup, keys: pa.Schema, returns: pa.Schema, *, clock: Callable[[], float] = monotonic) -> None:
        self._source, self._names, self._clock = source, keys.names, clock
        self._reader = Reader(keys, returns)
        self._one_by_one = source.method == "GET" and source.places != (KEYS,)
        path = PLACE.findall(source.url.partition("?")[0])
        self._in_path = [at for at, name in enumerate(keys.names) if name in path or path == [KEYS]]

    @property
    def batch_size(self) -> int:
        """Keys that are asked for at once."""
        return 1 if self._one_by_one else self._source.limits.batch_size

    def refuses(self, key: Key) -> Failure | None:
        """Return why a key cannot be part of the address, if so."""
        if any(not NO_PATH.isdisjoint(SLASH.split(str(to_json(key[at])))) for at in self._in_path):
            why, todo = "such a path leads elsewhere", "send keys by POST, or behind the question mark"
            return Failure("a key that can be part of a path", named(self._names, key), todo, why)
        return None

    def ask(self, keys: pa.Table, timeout_s: float) -> Answer:
        """Ask once.

        Raises
        ------
        AskError
            There is no answer that can be used.
        SettingsError
            A secret is not there.
        """
        values = list(zip(*(column.to_pylist() for column in keys.columns), strict=True))
        body = self._request(values, self._clock() + timeout_s)
        return self._reader.read(body, {key: at for at, key in enumerate(values)}, single=self._one_by_one)

    def _request(self, keys: list[Key], end: float) -> bytes:
        source, left = self._source, max(0.001, end - self._clock())
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "millrace", **self._headers}
        body, pool = None, self._pool
        if source.method == "POST":
            headers["Content-Type"] = "application/json"
            body = json.dumps({KEYS: [self._sent(key) for key in keys]}).encode()
        try:
            response = pool.request(
                source.method,
                self._address(keys),
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(total=left),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            try:
                found = self._read(response, end)
            except BaseException:
                response.close()  # what is left of the answer must not be taken for the next one
                raise
            response.release_conn()
        except (HTTPError, OSError) as error:
            raise _unanswered(error, source.limits.timeout.total_seconds()) from None  # its text may hold a header
        return found

    def _read(self, response: BaseHTTPResponse, end: float) -> bytes:
        is_none = response.status == NO_CONTENT or (response.status == NOT_FOUND and self._one_by_one)
        if not is_none and response.status != OK:
            raise _refused(response)
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity" and not is_none:
            raise _unusable("an answer that is not compressed", f"Content-Encoding {encoding[:20]!r}", "switch compression off")
        most = self._source.limits.most_bytes
        said = response.headers.get("Content-Length", "")[:DIGITS]
        parts, size = [], int(said) if said.isdecimal() else 0
        if size <= most:
            size = 0
            # Piece by piece: the socket's timeout is between two pieces, ours is for all of them.
            while piece := response.read1(CHUNK):
                parts.append(piece)
                size += len(piece)
                if size > most:
                    break
                if self._clock() >= end:
                    raise Late
        if size > most:
            todo = "raise most_bytes, lower batch_size, or let the service answer with less"
            raise _unusable(f"an answer of at most {most} bytes", f"{said or 'at least ' + str(size)} bytes", todo)
        return NOTHING if is_none else b"".join(parts)

    def _sent(self, key: Key) -> Any:
        values = [to_json(value) for value in key]
        return values[0] if len(values) == 1 else dict(zip(self._names, values, strict=True))

    def _address(self, keys: list[Key]) -> str:
        def put(place: re.Match[str]) -> str:
            if self._one_by_one:
                return _quoted(keys[0][self._names.index(place[1])])
            return ",".join(_quoted(key[0]) for key in keys)

        return PLACE.sub(put, self._source.url) if self._source.method == "GET" else self._source.url

    @cached_property
    def _headers(self) -> dict[str, str]:
        found = resolve(self._source.headers)
        for name, value in found.items():
            if not PRINTABLE.fullmatch(value):  # said here, as the library's error would show the value
                got, todo = "something else", "correct what the reference refers to"
                raise SettingsError("send", "header", name, expected="one line of Latin-1 text", got=got, todo=todo)
        return found

    @cached_property
    def _pool(self) -> urllib3.PoolManager:
        try:
            context = ssl.create_default_context(cafile=self._source.ca_file)
        except OSError as error:
            got, todo = error.strerror or type(error).__name__, "name a file that every worker can read"
            raise SettingsError(
                "read", "ca_file", str(self._source.ca_file), expected="a PEM file with authorities", got=got, todo=todo
            ) from error
        return urllib3.PoolManager(num_pools=1, maxsize=1, ssl_context=context)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in {"http", "https"} and parts.hostname and parts.username is None and not parts.fragment
        fine = fine and parts.port != 0 and "{" not in parts.netloc and url.isascii() and url.isprintable() and " " not in url
    except ValueError:
        fine = False
    if not fine:
        expected, got = "http(s)://host[:port]/path[?query] in ASCII, without user, password and fragment", "something else"
        # Not shown: it may hold a password.
        raise SettingsError("use", "address", "url", expected=expected, got=got, todo="correct it; secrets go into headers, by reference")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_secret(name: str) -> bool:
    return is_secret(name.lower()) or SECRET.search(name) is not None


def _quoted(value: Any) -> str:
    sent = to_json(value)
    return quote(json.dumps(sent) if isinstance(sent, bool) else str(sent), safe="")


def _refused(response: BaseHTTPResponse) -> AskError:
    status = response.status
    todo = "see the service's log" if status >= 500 else "correct the address, the headers or the rights"  # noqa: PLR2004 (the server's own)
    wait = response.headers.get("Retry-After", "")
    wait_s = float(wait) if wait.isdecimal() else 0.0
    return AskError(Failure("HTTP 200", f"HTTP {status}", todo), is_transient=status in TRANSIENT, wait_s=wait_s)


def _unusable(expected: str, got: str, todo: str) -> AskError:
    return AskError(Failure(expected, got, todo), is_transient=False)


def _unanswered(error: HTTPError | OSError, timeout_s: float) -> AskError:
    """Tell what came instead of an answer, in our words."""
    if isinstance(error, NewConnectionError):  # which is a `Late` too
        got = "no connection"
    elif isinstance(error, Late | TimeoutError):
        got = "none in time"
    elif isinstance(error, SSLError | ssl.SSLError):
        failure = Failure("a connection over TLS that can be trusted", _cause(error), "correct the service's certificate, or name ca_file")
        return AskError(failure, is_transient=False)
    else:
        got = "a connection that broke off"
    expected, todo = f"a whole answer within {timeout_s:g} s", "see that the service runs and can be reached from the workers"
    return AskError(Failure(expected, got, todo, _cause(error)), is_transient=True)


def _cause(error: BaseException) -> str:
    """Return the innermost error that says what the system saw."""
    reached: BaseException | None = error
    text = type(error).__name__
    while reached is not None:
        if isinstance(reached, ssl.SSLCertVerificationError):
            return f"{type(reached).__name__}: {reached.verify_message}"
        if isinstance(reached, OSError) and reached.strerror:
            text = f"{type(reached).__name__}: {reached.strerror}"
        reached = reached.__cause__ or reached.__context__
    return text
