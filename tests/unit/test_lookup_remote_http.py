"""Lookups over a real HTTP server on the loopback that answers, and one that fails in every way that it can."""

from __future__ import annotations

import json
import pickle
import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.joins.remote import HttpLookup, Limits
from spark_ext.joins.remote.failure import AskError
from spark_ext.joins.remote.http import HttpClient
from tests.lookup_service import Answering, Request, Service, always, from_table, one_of_path, send, service

KEYS = pa.schema([("id", pa.int64())])
RETURNS = pa.schema([("name", pa.string()), ("age", pa.int32())])
PEOPLE = {1: [{"name": "Ann", "age": 31}], 2: [{"name": "Bob", "age": None}, {"name": "Bert", "age": 5}], 4: [{"name": "Dürr", "age": 1}]}
QUICK_S = 0.3


@pytest.fixture
def people() -> Iterator[Service]:
    with service(from_table(PEOPLE)) as running:
        yield running


def client(source: HttpLookup, keys: pa.Schema = KEYS, returns: pa.Schema = RETURNS) -> HttpClient:
    source.check(keys, returns)
    return source.connect(keys, returns)


def ask(source: HttpLookup, *ids: Any, timeout_s: float = 5.0, keys: pa.Schema = KEYS, returns: pa.Schema = RETURNS) -> dict[Any, Any]:
    """Return rows, or the failure's text, by key."""
    values = [one if isinstance(one, tuple) else (one,) for one in ids]
    columns = [pa.array([value[at] for value in values], kind) for at, kind in enumerate(keys.types)]
    answer = client(source, keys, returns).ask(pa.Table.from_arrays(columns, schema=keys), timeout_s)
    found: dict[Any, Any] = {one: [] for one in ids}
    for owner, row in zip(answer.owners.tolist(), answer.rows.to_pylist(), strict=True):
        found[ids[owner]].append(row)
    for owner, failure in answer.failures.items():
        found[ids[owner]] = failure.text
    return found


def fails(answering: Answering, *, transient: bool, match: str, limits: Limits | None = None, timeout_s: float = 5.0) -> AskError:
    with service(answering) as running, pytest.raises(AskError, match=match) as caught:
        ask(HttpLookup(running.url, limits=limits or Limits()), 1, 2, timeout_s=timeout_s)
    assert caught.value.is_transient is transient
    return caught.value


def test_keys_go_in_one_request_and_each_gets_its_rows(people: Service) -> None:
    assert ask(HttpLookup(people.url), 2, 3, 1, 4) == {2: PEOPLE[2], 3: [], 1: PEOPLE[1], 4: PEOPLE[4]}
    (request,) = people.requests
    assert (request.method, request.body) == ("POST", {"keys": [2, 3, 1, 4]})
    assert request.headers["Content-Type"] == "application/json"


def test_several_key_columns_go_as_objects_and_come_back_as_they_are_typed(people: Service) -> None:
    keys = pa.schema([("day", pa.date32()), ("price", pa.decimal128(6, 2)), ("at", pa.timestamp("us", "UTC")), ("ok", pa.bool_())])
    key = (date(2013, 1, 1), Decimal("1.50"), datetime(2013, 1, 1, 12, 30, tzinfo=UTC), True)
    sent = {"day": "2013-01-01", "price": "1.50", "at": "2013-01-01T12:30:00Z", "ok": True}

    def answer(request: Request, handler: BaseHTTPRequestHandler) -> None:
        assert request.keys == [sent]
        other = sent | {"price": 1.5, "at": "2013-01-01T14:30:00+02:00", "name": "x", "age": 1}  # the same, written otherwise
        send(handler, json.dumps([other]).encode())

    people.answering = answer
    assert ask(HttpLookup(people.url), key, keys=keys) == {key: [{"name": "x", "age": 1}]}


def test_a_connection_is_kept_also_after_an_answer_that_there_is_nothing(people: Service) -> None:
    one = client(HttpLookup(people.url))
    for key in range(4):
        one.ask(pa.table({"id": [key]}), 5.0)
    people.answering = always(204)
    one.ask(pa.table({"id": [9]}), 5.0)
    one.ask(pa.table({"id": [9]}), 5.0)
    assert len(people.requests) == 6
    assert len({request.connection for request in people.requests}) == 1


def test_one_key_in_the_address_with_404_for_none() -> None:
    keys = pa.schema([("code", pa.string())])
    with service(one_of_path({"a/b ü": {"name": "A", "age": 1}})) as running:
        source = HttpLookup(f"{running.url}/people/{{code}}", method="GET")
        assert client(source, keys).batch_size == 1
        assert ask(source, "a/b ü", keys=keys) == {"a/b ü": [{"name": "A", "age": 1}]}
        assert ask(source, "nobody", keys=keys) == {"nobody": []}
        assert [request.path for request in running.requests] == ["/people/a%2Fb%20%C3%BC", "/people/nobody"]


@pytest.mark.parametrize("key", ["", ".", "..", "../admin", "a//b", "..\\x"])
def test_a_key_that_would_lead_to_another_address_is_not_sent(key: str) -> None:
    keys = pa.schema([("code", pa.string())])
    refused = client(HttpLookup("http://127.0.0.1/people/{code}", method="GET"), keys).refuses((key,))
    assert refused is not None
    assert "such a path leads elsewhere" in refused.text
    assert client(HttpLookup("http://127.0.0.1/people?code={code}", method="GET"), keys).refuses((key,)) is None


def test_many_keys_in_the_address(people: Service) -> None:
    keys = pa.schema([("id", pa.string())])
    rows = [{"id": "a,b", "name": "x", "age": 1}, {"id": "&c=", "name": "y", "age": 2}]
    people.answering = always(200, json.dumps(rows).encode())
    found = ask(HttpLookup(f"{people.url}/people?ids={{keys}}", method="GET"), "a,b", "&c=", "d", keys=keys)
    assert found == {"a,b": [{"name": "x", "age": 1}], "&c=": [{"name": "y", "age": 2}], "d": []}
    assert people.requests[0].path == "/people?ids=a%2Cb,%26c%3D,d"


@pytest.mark.parametrize(
    ("status", "transient"), [(500, True), (503, True), (429, True), (400, False), (401, False), (404, False), (302, False)]
)
def test_another_status_is_no_answer(status: int, transient: bool) -> None:
    fails(always(status, b"secret details"), transient=transient, match=f"expected HTTP 200, got HTTP {status}$")


def test_redirects_are_not_followed(people: Service) -> None:
    fails(always(307, Location=people.url), transient=False, match="HTTP 307")
    assert people.requests == []


def test_the_service_says_how_long_to_wait() -> None:
    assert fails(always(503, Retry_After="7"), transient=True, match="503").wait_s == 7.0
    assert fails(always(503, Retry_After="tomorrow"), transient=True, match="503").wait_s == 0.0


def held(before: bytes) -> Answering:
    """Send this much, then nothing until the test is over."""

    def answer(_request: Request, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(before)
        running[0].released.wait(60)

    running: list[Service] = []
    answer.running = running  # type: ignore[attr-defined]
    return answer


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[{"], ids=["no answer", "half of one"])
def test_a_slow_answer_is_given_up_in_time(before: bytes) -> None:
    answering = held(before)
    with service(answering) as running:
        answering.running.append(running)  # type: ignore[attr-defined]
        with pytest.raises(AskError, match="within 5 s, got none in time") as caught:
            ask(HttpLookup(running.url), 1, timeout_s=QUICK_S)
    assert caught.value.is_transient


def test_an_answer_that_comes_in_drops_is_given_up_in_time() -> None:
    drops = 0

    def answer(_request: Request, handler: BaseHTTPRequestHandler) -> None:
        nonlocal drops
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for drops in range(100_000):  # noqa: B007 (counted)
            handler.wfile.write(b" ")
            handler.wfile.flush()
            if running.released.wait(QUICK_S / 6):
                return

    with service(answer) as running:
        with pytest.raises(AskError, match="none in time"):
            ask(HttpLookup(running.url), 1, timeout_s=QUICK_S)
        assert drops < 100


def test_nobody_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(AskError, match="got no connection; ConnectionRefusedError: Connection refused") as caught:
            ask(HttpLookup(url), 1)
    assert caught.value.is_transient


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n[]",
        b"",
        b"220 mail.example ESMTP\r\n",
    ],
    ids=["short", "no last chunk", "half a chunk", "nothing", "no HTTP"],
)
def test_an_answer_that_breaks_off(answer: bytes) -> None:
    def broken(_request: Request, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(answer)
        handler.close_connection = True

    fails(broken, transient=True, match="got a connection that broke off")


def test_after_a_broken_answer_the_next_one_is_whole(people: Service) -> None:
    good, one = people.answering, client(HttpLookup(people.url))
    people.answering = always(200, b"[{}]" + b" " * 1000)
    with pytest.raises(AskError, match="key field 'id'"):
        one.ask(pa.table({"id": [1]}), 5.0)
    people.answering = always(500, b"x" * 100_000)
    with pytest.raises(AskError, match="HTTP 500"):
        one.ask(pa.table({"id": [1]}), 5.0)
    people.answering = good
    assert one.ask(pa.table({"id": [1]}), 5.0).rows.to_pylist() == PEOPLE[1]


def chunks_without_end(_request: Request, handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(1000):
        handler.wfile.write(b"400\r\n" + b" " * 1024 + b"\r\n")


@pytest.mark.parametrize(
    ("answering", "match"),
    [
        (always(200, b" " * 5000), "at most 4096 bytes, got 5000 bytes"),
        (chunks_without_end, "at most 4096 bytes, got at least [0-9]+ bytes"),
        (always(200, Content_Length="1" * 30), "at most 4096 bytes, got 1+ bytes"),
        (always(200, Content_Length="1" * 5000), "at most 4096 bytes, got 1{20} bytes"),
    ],
    ids=["said", "not said", "absurd", "no number of Python's"],
)
def test_too_large_an_answer_is_refused(answering: Answering, match: str) -> None:
    fails(answering, transient=False, match=match, limits=Limits(most_bytes=4096))


def test_an_answer_of_just_the_size_is_taken(people: Service) -> None:
    body = b"[]".ljust(4096)
    people.answering = always(200, body)
    assert ask(HttpLookup(people.url, limits=Limits(most_bytes=4096)), 1) == {1: []}


@pytest.mark.parametrize(
    ("body", "transient", "match"),
    [
        (b"<html>", True, "expected JSON in UTF-8, got 6 bytes that are none"),
        (b'[{"id": 1', True, "expected JSON"),
        (b'[{"id": 1, "name": "\xff"}]', True, "expected JSON in UTF-8, got .*UnicodeDecodeError"),
        (b'[{"id": NaN}]', True, "expected JSON"),
        (b"[" * 100_000, True, "expected JSON.*RecursionError"),
        (b'{"id": 1}', False, "a JSON array of objects, got dict"),
        (b"[1]", False, "an array of objects, got an array with int 1"),
        (b'[{"name": "x"}]', False, "key field 'id' of each object a value, got null"),
        (b'[{"id": "1"}]', False, "key field 'id' of each object an integer of 64 bits, got str '1'"),
        (b'[{"id": true}]', False, "an integer of 64 bits, got bool True"),
        (b'[{"id": 3, "name": "x"}]', False, "rows for the keys that were asked for, got one for key id=3"),
    ],
)
def test_an_answer_that_is_none(body: bytes, transient: bool, match: str) -> None:
    fails(always(200, body), transient=transient, match=match)


def test_a_number_beyond_any_decimal_is_no_answer() -> None:
    returns = pa.schema([("amount", pa.decimal128(10, 2))])
    with service(always(200, b'[{"id": 1, "amount": 1e99999999999999999999}]')) as running, pytest.raises(AskError, match="expected JSON"):
        ask(HttpLookup(running.url), 1, returns=returns)


def test_a_compressed_answer_is_refused() -> None:
    fails(always(200, b"xx", Content_Encoding="gzip"), transient=False, match="not compressed, got Content-Encoding 'gzip'")


WRONG: list[tuple[pa.DataType, Any, str]] = [
    (pa.int32(), 2**31, "an integer of 32 bits, got int 2147483648"),
    (pa.int32(), 1.0, "an integer of 32 bits, got float 1.0"),
    (pa.int32(), "1", "got str '1'"),
    (pa.int32(), True, "got bool True"),
    (pa.int64(), -(2**63) - 1, "an integer of 64 bits"),
    (pa.string(), 1, "text, got int 1"),
    (pa.string(), "\ud800", "text without halves of surrogate pairs"),
    (pa.bool_(), 1, "true or false, got int 1"),
    (pa.float64(), 2**53 + 1, "a float of 64 bits can hold"),
    (pa.float64(), 10**400, "a float of 64 bits can hold"),
    (pa.float64(), "1.5", "a float of 64 bits can hold, got str '1.5'"),
    (pa.float32(), 1e39, "a float of 32 bits can hold"),
    (pa.decimal128(4, 2), "1.234", "decimal\\(4,2\\) can hold"),
    (pa.decimal128(4, 2), 100, "decimal\\(4,2\\) can hold"),
    (pa.decimal128(4, 2), "1e1", "decimal\\(4,2\\) can hold"),
    (pa.decimal128(38, 0), 10**38, "decimal\\(38,0\\) can hold"),
    (pa.date32(), "2013-02-29", "a date as yyyy-mm-dd"),
    (pa.date32(), "20130228", "a date as yyyy-mm-dd"),
    (pa.timestamp("us", "UTC"), "2013-01-01T12:00:00", "or with another offset, got str"),
    (pa.timestamp("us", "UTC"), 1357041600, "or with another offset, got int"),
    (pa.timestamp("us", "UTC"), "0001-01-01T00:00:00+05:00", "a timestamp as"),
    (pa.timestamp("us"), "2013-01-01T12:00:00Z", "without offset"),
    (pa.list_(pa.int32()), [1, "2"], "an integer of 32 bits"),
    (pa.struct([("x", pa.int32())]), [1], "an object"),
]


@pytest.mark.parametrize(("kind", "value", "match"), WRONG)
def test_a_value_that_does_not_fit_fails_its_key_alone_and_says_which(people: Service, kind: pa.DataType, value: Any, match: str) -> None:
    rows = [{"id": 1, "v": None}, {"id": 2, "v": None}, {"id": 2, "v": value}, {"id": 1}]
    people.answering = always(200, json.dumps(rows).encode())
    found = ask(HttpLookup(people.url), 1, 2, 3, returns=pa.schema([("v", kind)]))
    assert found[1] == [{"v": None}] * 2
    assert found[3] == []
    assert re.search(f"^expected in field 'v' of key id=2 .*{match}", found[2]), found[2]


RIGHT: list[tuple[pa.DataType, str, Any]] = [
    (pa.int32(), "-2147483648", -(2**31)),
    (pa.string(), '"\\ud83d\\ude00 \\u0000"', "\N{GRINNING FACE} \0"),
    (pa.bool_(), "false", False),
    (pa.float64(), "1", 1.0),
    (pa.float64(), "0.1", 0.1),
    (pa.float32(), "1.5", 1.5),
    (pa.decimal128(20, 2), "123456789012345678.10", Decimal("123456789012345678.10")),
    (pa.decimal128(20, 2), '"-1.5"', Decimal("-1.50")),
    (pa.decimal128(4, 2), "1.500", Decimal("1.50")),
    (pa.date32(), '"2012-02-29"', date(2012, 2, 29)),
    (pa.timestamp("us", "UTC"), '"2013-01-01T12:00:00.5+01:00"', datetime(2013, 1, 1, 11, 0, 0, 500_000, tzinfo=UTC)),
    (pa.timestamp("us"), '"2013-01-01 12:00:00"', datetime(2013, 1, 1, 12)),  # noqa: DTZ001 (without a zone)
    (pa.list_(pa.int32()), "[1, null]", [1, None]),
    (pa.struct([("x", pa.int32()), ("y", pa.string())]), '{"x": 1, "z": 2}', {"x": 1, "y": None}),
]


@pytest.mark.parametrize(("kind", "text", "value"), RIGHT)
def test_a_value_that_fits_is_taken_as_it_is(people: Service, kind: pa.DataType, text: str, value: Any) -> None:
    people.answering = always(200, f'[{{"id": 1, "v": {text}, "more": {{}}}}]'.encode())
    assert ask(HttpLookup(people.url), 1, returns=pa.schema([("v", kind)])) == {1: [{"v": value}]}


def test_null_where_none_may_be_fails_the_key(people: Service) -> None:
    people.answering = always(200, b'[{"id": 1, "v": null}, {"id": 2}]')
    found = ask(HttpLookup(people.url), 1, 2, returns=pa.schema([pa.field("v", pa.int64(), nullable=False)]))
    assert found[1] == "expected in field 'v' of key id=1 a value, got null"
    assert found[2] == "expected in field 'v' of key id=2 a value, got no such field"


def test_secrets_are_sent_and_are_nowhere_else(people: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("tok-2\n")
    monkeypatch.setenv("LOOKUP_TOKEN", "tok-1")
    headers = {"Authorization": "Bearer ${env:LOOKUP_TOKEN}", "X-Api-Key": f"${{file:{tmp_path}/token}}", "X-Team": "web"}
    source = HttpLookup(people.url, headers=headers)
    ask(source, 1)
    sent = people.requests[0].headers
    assert (sent["Authorization"], sent["X-Api-Key"], sent["X-Team"]) == ("Bearer tok-1", "tok-2", "web")
    assert b"tok-1" not in pickle.dumps(source)
    assert "tok-" not in repr(source)
    monkeypatch.delenv("LOOKUP_TOKEN")
    with pytest.raises(SettingsError, match="no such variable in this process"):
        ask(source, 1)
    monkeypatch.setenv("LOOKUP_TOKEN", "tok-3\r\nX: y")
    with pytest.raises(SettingsError, match="cannot send header 'Authorization'") as caught:
        ask(source, 1)
    assert "tok-3" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: HttpLookup("http://example.com/x"), "expected https, got http; keys, answers and headers would travel readable"),
        (lambda: HttpLookup("http://127.0.0.1.example.com/x"), "expected https"),
        (lambda: HttpLookup("https://u:hunter2@example.com/x"), "cannot use address 'url'"),
        (lambda: HttpLookup("ftp://example.com/x"), "cannot use address 'url'"),
        (lambda: HttpLookup("https:///x"), "cannot use address 'url'"),
        (lambda: HttpLookup("https://{id}.example.com/x"), "cannot use address 'url'"),
        (lambda: HttpLookup("https://example.com/x?api_key=hunter2"), "'api_key'.*got the secret itself"),
        (lambda: HttpLookup("https://example.com", headers={"authorization": "Bearer hunter2"}), "'authorization'.*the secret itself"),
        (lambda: HttpLookup("https://example.com", headers={"X-Auth-Token": "hunter2"}), "'X-Auth-Token'.*the secret itself"),
        (lambda: HttpLookup("https://example.com", headers={"Cookie": "hunter2"}), "'Cookie'.*the secret itself"),
        (lambda: HttpLookup("https://example.com", headers={"X": "a\r\nB: c"}), "expected one line, got several"),
        (lambda: HttpLookup("https://example.com", method="PUT"), "expected POST or GET"),  # type: ignore[arg-type]
    ],
)
def test_addresses_and_headers_that_are_refused(make: Callable[[], HttpLookup], match: str) -> None:
    with pytest.raises(SettingsError, match=match) as caught:
        make()
    assert "hunter2" not in str(caught.value)


def test_addresses_that_are_taken() -> None:
    for url in ("https://example.com/x?q=1", "http://localhost:8080", "http://127.1.2.3/", "http://[::1]:80/x"):
        HttpLookup(url)
    HttpLookup("http://example.com", plain_http=True)


def test_what_cannot_be_asked_for_is_refused_before_anything_is_sent(people: Service) -> None:
    source = HttpLookup(people.url)
    with pytest.raises(SchemaError, match=r"cannot look up by key 'k'.*got double"):
        source.check(pa.schema([("k", pa.float64())]), RETURNS)
    with pytest.raises(SchemaError, match=r"cannot read from JSON column 'v'.*got binary"):
        source.check(KEYS, pa.schema([("v", pa.binary())]))
    with pytest.raises(SchemaError, match=r"'v.x\[\]'.*got binary"):
        source.check(KEYS, pa.schema([("v", pa.struct([("x", pa.list_(pa.binary()))]))]))
    for url, method in (("/x/{id}", "POST"), ("/x", "GET"), ("/x/{no}", "GET"), ("/x/{id}/{keys}", "GET")):
        with pytest.raises(SettingsError, match="expected the places"):
            HttpLookup(people.url + url, method=method).check(KEYS, RETURNS)  # type: ignore[arg-type]
    assert people.requests == []


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two certificates that sign themselves, of this machine and of another."""
    folder = tmp_path_factory.mktemp("certificates")
    for name, subject in (("here", "IP:127.0.0.1"), ("elsewhere", "DNS:example.com")):
        new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}", "-addext"]
        files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
        subprocess.run(
            ["openssl", "req", "-x509", "-days", "2", *new, f"subjectAltName={subject}", *files], check=True, capture_output=True
        )
    return folder


@pytest.mark.parametrize(
    ("name", "authority", "match"),
    [
        ("here", None, "SSLCertVerificationError: self-signed certificate"),
        ("here", "elsewhere", "SSLCertVerificationError: self-signed certificate"),
        ("elsewhere", "elsewhere", "SSLCertVerificationError: IP address mismatch"),
    ],
)
def test_a_certificate_that_nobody_vouches_for_is_not_trusted(certificates: Path, name: str, authority: str | None, match: str) -> None:
    with secured(certificates, name) as running:
        source = HttpLookup(running.url, ca_file=None if authority is None else str(certificates / f"{authority}.pem"))
        with pytest.raises(AskError, match=f"over TLS that can be trusted, got {match}") as caught:
            ask(source, 1)
        assert running.requests == []
    assert not caught.value.is_transient


def test_a_certificate_of_a_named_authority_is_trusted(certificates: Path, tmp_path: Path) -> None:
    with secured(certificates, "here") as running:
        assert ask(HttpLookup(running.url, ca_file=str(certificates / "here.pem")), 1) == {1: PEOPLE[1]}
    with pytest.raises(SettingsError, match=r"cannot read ca_file.*No such file"):
        ask(HttpLookup("https://127.0.0.1:1/", ca_file=str(tmp_path / "gone.pem")), 1)


def secured(certificates: Path, name: str) -> AbstractContextManager[Service]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    return service(from_table(PEOPLE), tls=context)


def test_equal_sources_are_one_and_come_through_pickling() -> None:
    source = HttpLookup("https://example.com", headers={"X": "a"}, limits=Limits(timeout=timedelta(seconds=1)))
    again = pickle.loads(pickle.dumps(source))  # noqa: S301 (our own)
    assert (again, hash(again)) == (source, hash(source))
    assert source != HttpLookup("https://example.com", headers={"X": "b"}, limits=source.limits)
