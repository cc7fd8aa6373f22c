"""What the agent lets in over HTTP, asked as anybody may ask."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from remote_agents import TOKEN, request, running

from nas.measure.remote.agent import KEPT, Running
from nas.measure.remote.web import LONGEST_REQUEST
from nas.store import sha256_bytes

JOB = "/jobs/" + "0" * 32
PATHS = [
    ("GET", "/device"),
    ("PUT", "/blobs/" + "0" * 64),
    ("POST", JOB),
    ("GET", JOB),
    ("DELETE", JOB),
    ("GET", "/"),
    ("GET", "/nowhere"),
]
DESCRIBE = json.dumps({"ask": "describe", "target": "onnxruntime-cpu-1t-b1"}).encode()
LIMIT_MB = 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("agent") / "received"


@pytest.fixture(scope="module")
def agent(own_lease: None, folder: Path) -> Iterator[Running]:
    folder.mkdir()
    with running(folder, LIMIT_MB) as agent:
        yield agent


def error(answer: tuple[int, bytes]) -> tuple[int, str]:
    return answer[0], json.loads(answer[1])["error"]


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    "given", ["", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer ", "Bearer ä"]
)
def test_nothing_is_answered_without_the_token(agent: Running, method: str, path: str, given: str) -> None:
    body = b"x" if method in ("PUT", "POST") else None
    assert error(request(agent, method, path, body, {"Authorization": given})) == (401, "the token is wrong or missing")


@pytest.mark.parametrize("version", ["", "0", "2", "11"])
def test_another_version_of_the_protocol_is_told(agent: Running, version: str) -> None:
    status, message = error(request(agent, "GET", "/device", headers={"Nas-Protocol": version}))
    assert status == 400
    assert message.startswith("the agent speaks version 1 of the protocol, but got ")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/device/", 404),
        ("GET", "/blobs/" + "0" * 64, 404),
        ("DELETE", "/device", 404),
        ("PUT", "/blobs/../../etc/passwd", 404),
        ("PUT", "/blobs/..%2F..%2Fetc%2Fpasswd", 400),
        ("PUT", "/blobs/..", 400),
        ("PUT", "/blobs/" + "A" * 64, 400),
        ("PUT", "/blobs/", 400),
        ("GET", "/jobs/1", 400),
        ("POST", "/jobs/..", 400),
        ("GET", JOB, 404),
    ],
)
def test_paths_that_are_none(agent: Running, folder: Path, method: str, path: str, status: int) -> None:
    assert request(agent, method, path, b"x" if method in ("PUT", "POST") else None)[0] == status
    assert [found.name for found in folder.parent.rglob("*")] == ["received"]


def test_a_file_is_kept_under_its_hash_alone(agent: Running, folder: Path) -> None:
    content = b"some file"
    name = sha256_bytes(content)
    status, message = error(request(agent, "PUT", f"/blobs/{name}", content + b"torn"))
    assert status == 422
    assert f"not {name}" in message
    assert list(folder.iterdir()) == []
    assert request(agent, "PUT", f"/blobs/{name}", content)[0] == 201
    assert [path.name for path in folder.iterdir()] == [name]
    (folder / name).unlink()


def test_what_is_too_large_is_not_read(agent: Running) -> None:
    name = "0" * 64
    status, message = error(request(agent, "PUT", f"/blobs/{name}", headers={"Content-Length": str(10**6 + 1)}))
    assert (status, message) == (413, "1,000,001 bytes are more than the 1,000,000 that are taken")
    assert request(agent, "POST", JOB, headers={"Content-Length": str(LONGEST_REQUEST + 1)})[0] == 413
    for length in ("", "-1", "1e3", "9" * 30, "²"):
        assert request(agent, "PUT", f"/blobs/{name}", headers={"Content-Length": length or "x"})[0] == 411


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"images": 3}',
        b'{"images": {}, "files": 1}',
        b'{"images": {"sha256": 1}, "files": []}',
    ],
)
def test_what_is_no_request_is_refused(agent: Running, body: bytes) -> None:
    assert request(agent, "POST", JOB, body)[0] == 400


def test_files_that_are_missing_are_named(agent: Running) -> None:
    files = ["1" * 64, "../../etc/passwd", "1" * 64]
    body = json.dumps({"images": {"sha256": "2" * 64}, "files": files}).encode()
    status, answer = request(agent, "POST", JOB, body)
    assert (status, json.loads(answer)["missing"]) == (409, ["1" * 64, "../../etc/passwd", "2" * 64])


def test_a_request_that_is_sent_twice_is_answered_once(agent: Running) -> None:
    before = agent.jobs.done
    assert request(agent, "POST", JOB, DESCRIBE)[0] == 201
    assert request(agent, "POST", JOB, DESCRIBE)[0] == 200
    status, answer = request(agent, "GET", JOB)
    assert status == 200
    assert request(agent, "GET", JOB) == (200, answer)
    assert request(agent, "POST", JOB, DESCRIBE)[0] == 200
    assert request(agent, "DELETE", JOB)[0] == 200
    assert request(agent, "GET", JOB)[0] == 404
    assert agent.jobs.done == before + 1


def test_one_who_vanishes_in_mid_upload_leaves_nothing(agent: Running, folder: Path) -> None:
    content = b"x" * 500_000
    head = f"PUT /blobs/{sha256_bytes(content)} HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nNas-Protocol: 1\r\n"
    for _ in range(KEPT * 3):  # more than there is room for, were any of it kept
        with socket.create_connection(("127.0.0.1", agent.address.port), timeout=30) as connection:
            connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content[:1000])
            connection.shutdown(socket.SHUT_WR)
            assert b"422" in connection.makefile("rb").readline()
            # The end is a reset, as of a machine that lost its power.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert list(folder.iterdir()) == []
    assert request(agent, "PUT", f"/blobs/{sha256_bytes(content)}", content)[0] == 201


def test_what_is_no_http_is_hung_up_on(agent: Running) -> None:
    with socket.create_connection(("127.0.0.1", agent.address.port), timeout=30) as connection:
        connection.sendall(b"\x80\x04\x95 a pickle\r\n\r\n")
        answer = connection.makefile("rb").read()
    assert b"Error code: 400" in answer
    assert request(agent, "GET", "/device")[0] == 200
