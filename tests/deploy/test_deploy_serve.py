"""``nas serve`` as clients meet it: answers, refusals with a reason, and no way to make it fall over."""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deploy_fakes import CLASS_NAMES, GREY, make_example
from PIL import Image

from nas.artifact import InputSpec, open_session
from nas.deploy import Deployment, Limits, choose, load_deployment, predict, web, write_deployment
from nas.deploy.batching import Batcher
from nas.deploy.engine import engine

uvicorn = pytest.importorskip("uvicorn")

LIMIT = 100_000


@dataclass(frozen=True)
class Served:
    deployment: Deployment
    port: int

    def send(self, body: bytes, kind: str = "application/octet-stream", **headers: str) -> tuple[int, dict[str, Any]]:
        return self.ask("POST", "/predict", body, {"Content-Type": kind, **headers})

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


def deployed(folder: Path, input: InputSpec = GREY) -> Deployment:
    study = make_example(folder / "birds", input).study
    return load_deployment(write_deployment(study, choose(study, Limits(max_latency_ms=1)), folder / "deploy"))


def served(deployment: Deployment) -> Iterator[Served]:
    with engine(deployment) as network, web._listening(0) as listener:
        batcher = Batcher(network, 8)
        config = uvicorn.Config(web.application(deployment, batcher, LIMIT), log_level="warning", access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        try:
            yield Served(deployment, listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from served(deployed(tmp_path_factory.mktemp("grey")))


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from served(deployed(tmp_path_factory.mktemp("floats"), InputSpec("float32", (6, 5, 2))))


def pixels(seed: int = 0, count: int | None = None) -> np.ndarray:
    shape = (6, 5) if count is None else (count, 6, 5)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(array: np.ndarray, format: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format)
    return stream.getvalue()


def npy(array: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def form(*files: bytes, name: str = "a.png") -> tuple[bytes, str]:
    parts = [
        f'--edge\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'.encode() + file + b"\r\n"
        for file in files
    ]
    return b"".join(parts) + b"--edge--\r\n", "multipart/form-data; boundary=edge"


def expected(deployment: Deployment, images: np.ndarray) -> np.ndarray:
    batch = images.reshape(-1, *deployment.input.shape)
    rows: np.ndarray = open_session(deployment.read_model()).run(None, {"images": batch})[0]
    return rows


def check(answer: tuple[int, dict[str, Any]], deployment: Deployment, images: np.ndarray) -> None:
    status, body = answer
    assert status == 200, body
    rows = expected(deployment, images)
    assert [item["class"] for item in body["predictions"]] == [CLASS_NAMES[i] for i in rows.argmax(1)]
    for item, row in zip(body["predictions"], rows, strict=True):
        shares = {part["class"]: part["probability"] for part in item["top"]}
        assert shares == pytest.approx(dict(zip(CLASS_NAMES, row, strict=True)), rel=1e-5)
        assert list(shares.values()) == sorted(shares.values(), reverse=True)
        assert item["probability"] == max(shares.values())


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "TIFF", "PPM"])
def test_an_image_as_the_body(grey: Served, format: str) -> None:
    for kind in ("image/png", "application/octet-stream", "application/x-www-form-urlencoded", ""):
        check(grey.send(encoded(pixels(), format), kind), grey.deployment, pixels())


def test_a_jpeg_is_read_as_the_predict_command_reads_it(grey: Served, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content := encoded(pixels(3), "JPEG"))
    (told,) = predict(grey.deployment, [tmp_path / "a.jpg"])
    status, body = grey.send(content, "image/jpeg")
    assert (status, body["predictions"][0]["class"]) == (200, told.label)
    assert body["predictions"][0]["probability"] == pytest.approx(told.probability)


@pytest.mark.parametrize("count", [None, 1, 3, 20])  # more than go into one call
def test_arrays(grey: Served, count: int | None) -> None:
    array = pixels(1, count)
    check(grey.send(npy(array)), grey.deployment, array)
    check(grey.send(npy(np.asfortranarray(array))), grey.deployment, array)
    for data in (array.tolist(), {"images": array.tolist()}, {"image": array.tolist()}):
        check(grey.send(json.dumps(data).encode(), "application/json"), grey.deployment, array)


def test_arrays_of_floats(floats: Served) -> None:
    array = np.random.default_rng(0).normal(0, 20, (3, 6, 5, 2)).astype(np.float32)
    check(floats.send(npy(array)), floats.deployment, array)
    check(floats.send(npy(array.astype(np.float64))), floats.deployment, array)
    check(floats.send(json.dumps(array.tolist()).encode(), "application/json"), floats.deployment, array)


def test_a_form_with_several_files(grey: Served) -> None:
    body, kind = form(encoded(pixels(1)), npy(pixels(2, 2)))
    check(grey.send(body, kind), grey.deployment, np.concatenate([pixels(1)[None], pixels(2, 2)]))


def test_a_body_in_pieces(grey: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", grey.port, timeout=30)
    content = encoded(pixels())
    connection.request("POST", "/predict", iter([content[:9], content[9:]]), encode_chunked=True)
    response = connection.getresponse()
    check((response.status, json.loads(response.read())), grey.deployment, pixels())
    connection.close()


def test_what_is_served(grey: Served) -> None:
    status, body = grey.ask("GET", "/health")
    assert (status, body["status"], body["class_names"]) == (200, "ok", list(CLASS_NAMES))
    assert (body["model_sha256"], body["input"]["image_mode"]) == (grey.deployment.sha256, "L")
    before = body["answered"]
    grey.send(npy(pixels(0, 3)))
    assert grey.ask("GET", "/health")[1]["answered"] == before + 3


def test_the_page_needs_nothing_from_elsewhere(grey: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", grey.port, timeout=30)
    connection.request("GET", "/")
    response = connection.getresponse()
    page = response.read().decode()
    connection.close()
    assert response.headers["content-type"].startswith("text/html")
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    assert "://" not in page
    assert "innerHTML" not in page  # names of classes are text, whatever they hold


def test_a_fault_of_the_servers_is_told_as_json(grey: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> np.ndarray:
        raise RuntimeError("the sky fell")

    monkeypatch.setattr(web, "read_upload", fail)
    assert grey.send(PNG) == (500, {"error": "the server failed: the sky fell"})


# --- refusals --------------------------------------------------------------------------------------------------------


def npy_that_promises(shape: str, dtype: str = "|u1") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 30


def bomb() -> bytes:
    return encoded(np.zeros((8000, 8000), np.uint8)[:7000])


PNG, NPY = encoded(pixels()), npy(pixels())
JSON = "application/json"
REFUSED = {
    "nothing": (b"", "image/png", 400, "is empty"),
    "half an image": (PNG[: len(PNG) // 2], "image/png", 400, "cannot be read as an image|damaged"),
    "no image": (b"GIF89a", "image/gif", 415, "is no image that is taken"),
    "a text": (b"hello", "text/plain", 415, "is no image that is taken"),
    "a page": (b"<html>", "text/html", 415, "is no image that is taken"),
    "a program": (b"\x7fELF" + bytes(100), "application/octet-stream", 415, "is no image that is taken"),
    "PostScript, which Pillow hands to a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "image/eps", 415, "is no image"),
    "another size": (encoded(np.zeros((9, 9), np.uint8)), "image/png", 422, "is 9×9 .*, but must be 6×5"),
    "16 bits": (encoded(np.zeros((6, 5), np.uint16)), "image/png", 422, "more than 8 bits"),
    "half an array": (NPY[:-1], "", 400, "its header states another size"),
    "too much of an array": (NPY + b"1", "", 400, "its header states another size"),
    "half a header": (NPY[:30], "", 400, "damaged .npy"),
    "an array's magic": (NPY[:6], "", 400, "damaged .npy"),
    "a header that is no literal": (NPY.replace(b"False", b"open("), "", 400, "damaged .npy"),
    "a petabyte": (npy_that_promises("(1000000, 1000000, 1000)"), "", 400, "states another size"),
    "less than nothing": (npy_that_promises("(-6, -5)"), "", 400, "states another size"),
    "objects": (npy(np.array([None]), allow_pickle=True), "", 422, "must hold numbers"),
    "texts": (npy(np.array(["a"])), "", 422, "must hold numbers"),
    "another shape": (npy(np.zeros((5, 6), np.uint8)), "", 422, "must hold an array 6×5×1 or a batch"),
    "another type": (npy(np.zeros((6, 5), np.int64)), "", 422, "must hold uint8, but holds int64"),
    "no JSON": (b"[1, 2", JSON, 400, "is no JSON"),
    "deep JSON": (b"[" * 50_000, JSON, 400, "is no JSON|must be an array"),
    "JSON that is no text": (b"\xff\xfe[", JSON, 400, "is no JSON"),
    "a number": (b"3", JSON, 422, "must be an array of numbers"),
    "another key": (b'{"pixels": []}', JSON, 422, "or hold one under the key 'images'"),
    "rows of several lengths": (b"[[1, 2], [3]]", JSON, 422, "whose rows are of one length"),
    "words": (b'[["a"]]', JSON, 422, "must hold numbers only"),
    "truths": (b"[[true]]", JSON, 422, "must hold numbers only"),
    "an empty array": (b"[]", JSON, 422, "must hold numbers only, and some"),
    "a huge number": (b"[1" + b"0" * 400 + b"]", JSON, 422, "must hold"),
    "infinity": (b"[[Infinity]]", JSON, 422, "whole numbers from 0 to 255"),
    "a pixel beyond": (json.dumps((pixels().astype(int) + 256).tolist()).encode(), JSON, 422, "from 0 to 255"),
    "a form without a boundary": (b"abc", "multipart/form-data", 400, "form cannot be read"),
    "a form that is none": (b"abc", "multipart/form-data; boundary=edge", 400, "form"),
    "a form without a file": (form()[0], form()[1], 400, "holds no file"),
    "a form with half an image": (*form(PNG[:50]), 400, r"a\.png"),
    "a form with a text": (*form(b"hello", name="b.txt"), 415, r"b\.txt is no image"),
    "too much": (b"\0" * (LIMIT + 1), "", 413, "more than 100,000 bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_classified_is_refused_with_a_reason(grey: Served, name: str) -> None:
    body, kind, status, reason = REFUSED[name]
    given, answer = grey.send(body, kind)
    assert given == status, answer
    assert re.search(reason, answer["error"]), answer
    assert "\n" not in answer["error"]
    check(grey.send(PNG), grey.deployment, pixels())  # and the server goes on


def test_a_small_file_of_very_many_pixels(grey: Served) -> None:
    content = bomb()
    assert len(content) < LIMIT
    assert grey.send(content, "image/png")[0] == 413
    status, answer = grey.send(*form(content))
    assert (status, answer["error"]) == (413, "a.png has more than 50,000,000 pixels")


def test_too_much_in_pieces_is_refused_without_reading_on(grey: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", grey.port, timeout=30)
    connection.request("POST", "/predict", iter([b"\0" * 60_000] * 2), encode_chunked=True)
    response = connection.getresponse()
    assert (response.status, "bytes" in json.loads(response.read())["error"]) == (413, True)
    connection.close()


def test_compressed_bodies_are_not_taken(grey: Served) -> None:
    status, answer = grey.send(PNG, **{"Content-Encoding": "gzip"})
    assert (status, answer["error"]) == (415, "the content encoding gzip is not taken")


def test_image_files_where_the_model_takes_arrays(floats: Served) -> None:
    status, answer = floats.send(PNG, "image/png")
    assert (status, answer["error"]) == (415, "this model takes no image files, but arrays 6×5×2 float32")
    assert floats.send(b"[[[1e999, 1]]]", JSON)[0] == 422


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("GET", "/predict", 405), ("POST", "/health", 405)]
)
def test_other_routes(grey: Served, method: str, path: str, status: int) -> None:
    given, answer = grey.ask(method, path)
    assert (given, "there are POST /predict" in answer["error"]) == (status, True)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:80"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 200),
        ({"Host": "localhost:8000", "Origin": "http://localhost:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
    ],
)
def test_only_this_machine_is_answered(grey: Served, headers: dict[str, str], status: int) -> None:
    assert grey.ask("GET", "/health", headers=headers)[0] == status


def test_a_client_that_hangs_up_harms_nobody(grey: Served) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", grey.port)) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500\r\n\r\nabc")
    check(grey.send(PNG), grey.deployment, pixels())


def test_many_clients_at_once(grey: Served) -> None:
    answers: dict[int, tuple[int, dict[str, Any]]] = {}

    def ask(seed: int) -> None:
        answers[seed] = grey.send(npy(pixels(seed)))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, answer in answers.items():
        check(answer, grey.deployment, pixels(seed))
    assert len(answers) == 24
