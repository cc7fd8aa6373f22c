"""What ``nas serve`` keeps of the runtime's throughput, and whether it fails anybody: 8 clients, for a minute.

    python tests/benchmarks/serving.py                  # networks with random weights, of three sizes
    python tests/benchmarks/serving.py deploy           # a deployment of yours
    python tests/benchmarks/serving.py --seconds 2

The bare runtime is ONNX Runtime called in a loop on one image that is ready, with as many threads as the server gives
it. The server may use one core more, for HTTP, where the clients have yet another; else all share what there is, and
what the clients take of it is told. On a machine that others use, too, compare what is done in a second of the
processor's work: there HTTP counts as work, whichever core does it. Every answer is compared with the first one to
the same image, and that one with the bare runtime's. Every figure that the README gives for serving comes from here.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nas.artifact import INPUT_NAME, InputSpec, Manifest, open_session
from nas.deploy import Deployment, load_deployment
from nas.deploy.deployment import Reasons
from nas.deploy.serving import Serving
from nas.design import Design, Value
from nas.store import sha256_bytes
from nas.target import Target, affinity

TARGET = Target("onnxruntime", "cpu", 1, 1)
SERVE = "import typer; from nas.commands.deployment import serve; typer.run(serve)"
GREY = InputSpec("uint8", (28, 28, 1))

# Widths of a convnet's stem and of its stages: about 0.1, 0.3 and 1 ms on one core.
NETWORKS = {"small": (16, 24), "middle": (32, 64, 96), "large": (64, 128, 192)}


@dataclass
class Load:
    """What clients met.

    Args:
        seconds: For how long.
        answered: Requests that were answered rightly.
        failed: What went wrong with others, in words.
        latencies_ms: Of each answer.
        client_cpu: Processor time of the clients, in seconds.
        server_cpu: And of the server.
    """

    seconds: float
    answered: int = 0
    failed: list[str] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    client_cpu: float = 0.0
    server_cpu: float = 0.0

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds

    @property
    def words(self) -> str:
        middle, high = np.percentile(self.latencies_ms, (50, 95))
        return (
            f"{self.per_second:,.0f} requests/s, median {middle:.2f} ms, 95 % within {high:.2f} ms, "
            f"{len(self.failed)} failed; of {self.seconds:.0f} s the server worked {self.server_cpu:.1f}, the clients "
            f"{self.client_cpu:.1f}"
        )


class Client:
    """One connection that is kept, on which one request follows another."""

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        self.socket = socket.create_connection(address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request = request
        self.received = b""
        self.sent_at = 0.0

    def send(self) -> None:
        self.received = b""
        self.sent_at = time.perf_counter()
        self.socket.sendall(self.request)

    def receive(self) -> tuple[int, bytes] | None:
        """Status and body once they are all here; None before.

        Raises:
            ConnectionError: The server hung up.
        """
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionError("the server hung up")
        self.received += part
        head, found, body = self.received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        if not found or length is None or len(body) < int(length[1]):
            return None
        return int(head.split(b" ", 2)[1]), body


def request_of(body: bytes, kind: str = "application/octet-stream") -> bytes:
    """A request to classify, as bytes."""
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def bombard(address: tuple[str, int], pid: int, requests: list[bytes], classes: list[str], seconds: float) -> Load:
    """Clients that each send their request over and over.

    Args:
        address: The server's.
        pid: Its process.
        requests: One for each client.
        classes: The class that each must be answered with.
        seconds: For how long.
    """
    with ExitStack() as open_sockets:
        clients = [Client(address, request) for request in requests]
        for client in clients:
            open_sockets.enter_context(client.socket)
        return _bombarded(clients, pid, classes, seconds)


def _bombarded(clients: list[Client], pid: int, classes: list[str], seconds: float) -> Load:
    answers: list[bytes | None] = [None] * len(clients)
    load, picker = Load(seconds), selectors.DefaultSelector()
    for index, client in enumerate(clients):
        picker.register(client.socket, selectors.EVENT_READ, index)
        client.send()
    cpu, server_cpu, end = time.process_time(), cpu_seconds(pid), time.perf_counter() + seconds
    while time.perf_counter() < end:
        for key, _ in picker.select(1.0):
            index = key.data
            client = clients[index]
            try:
                answer = client.receive()
            except OSError as error:
                load.failed.append(str(error))
                picker.unregister(client.socket)
                continue
            if answer is None:
                continue
            load.latencies_ms.append(1000 * (time.perf_counter() - client.sent_at))
            if answers[index] is None:
                check_first(answer, classes[index])
                answers[index] = answer[1]
            if answer[0] == 200 and same_class(answer[1], answers[index]):
                load.answered += 1
            else:
                load.failed.append(f"{answer[0]} {answer[1][:200]!r}")
            client.send()
    load.client_cpu, load.server_cpu = time.process_time() - cpu, cpu_seconds(pid) - server_cpu
    return load


def check_first(answer: tuple[int, bytes], expected: str) -> None:
    status, body = answer
    if status != 200 or json.loads(body)["predictions"][0]["class"] != expected:
        raise SystemExit(f"a wrong answer: {status} {body[:300]!r}, expected {expected}")


def same_class(body: bytes, first: bytes | None) -> bool:
    """Whether two answers begin with the same class; probabilities may differ in their last digits with the batch."""
    return first is not None and body.partition(b",")[0] == first.partition(b",")[0]


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, all threads, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Server:
    """``nas serve`` in a process of its own, on a free port."""

    def __init__(self, folder: Path, cores: set[int] | None = None, *options: str) -> None:
        command = [sys.executable, "-c", SERVE, str(folder), "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if cores:
            os.sched_setaffinity(self.process.pid, cores)
        assert self.process.stdout is not None
        self.said: list[str] = []
        for line in self.process.stdout:
            self.said.append(line)
            if (found := re.search(r"127\.0\.0\.1:(\d+)$", line.strip())) is not None:
                self.address = ("127.0.0.1", int(found[1]))
                return
        raise SystemExit(f"the server did not start: {''.join(self.said)}")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> tuple[int, str]:
        """Ctrl-C; its exit code and all that it said."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        rest = self.process.communicate(timeout=30)[0]
        return self.process.returncode, "".join(self.said) + rest


@dataclass(frozen=True)
class Bare:
    """What ONNX Runtime alone classifies, one image at a time: in a second, and in one of the processor's work."""

    per_second: float
    per_cpu_second: float


def bare(deployment: Deployment, image: np.ndarray, seconds: float) -> Bare:
    """ONNX Runtime in a loop, on an image that is ready."""
    session = open_session(deployment.read_model(), deployment.serving.threads or 1)
    feeds = {INPUT_NAME: image}
    for _ in range(20):
        session.run(None, feeds)
    count, begin, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begin < seconds:
        session.run(None, feeds)
        count += 1
    return Bare(count / (time.perf_counter() - begin), count / (time.process_time() - cpu))


def write_network(folder: Path, widths: tuple[int, ...], input: InputSpec = GREY, classes: int = 10) -> Deployment:
    """A deployment of a convnet with random weights."""
    import torch

    from nas.compress import export
    from nas.data.normalise import Normalisation
    from nas.families import build

    stem, *stages = widths
    architecture: dict[str, Value] = {"stem.width": stem, "stages": len(stages), "head.hidden": 0}
    for number, width in enumerate(stages, 1):
        choices = {"conv": "standard", "kernel": 3, "width": width, "depth": 1, "pooling": "max"}
        architecture |= {f"stage{number}.{name}": value for name, value in choices.items()}
    torch.manual_seed(0)
    network = build("convnet", architecture, input.channels_first, classes).eval()
    body = export.export_body(network, input.channels_first)
    content = export.attach_front_end(body, input, Normalisation((127.0,), (60.0,)))
    names = tuple(f"class {number}" for number in range(classes))
    manifest = Manifest(input, names, export.opset_of(content), export.EXPORTER)
    deployment = Deployment(
        folder, "2026-01-01T00:00:00Z", "a benchmark", 0, Design("convnet", architecture, {}), "random weights",
        Serving.on(TARGET, "unknown"), manifest.input, manifest.class_names, manifest.exporter, manifest.opset,
        (), (), {}, (), Reasons("none", "for a benchmark", {}), {}, {}, sha256_bytes(content), len(content),
    )  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    (folder / "deployment.json").write_text(json.dumps(deployment.to_json()))
    return load_deployment(folder)


def images_for(deployment: Deployment, count: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (count, *deployment.input.shape), dtype=np.uint8)


def measure(
    deployment: Deployment, clients: int, seconds: float, bare_seconds: float, together: Sequence[int] = (1, 8)
) -> tuple[Bare, dict[int, Load]]:
    """What the bare runtime does, and what clients met, by how many images they send in one request."""
    cores = affinity()
    threads = deployment.serving.threads or 1
    serving = set(sorted(cores)[-threads - 1 :]) if len(cores) >= threads + 2 else None
    images = images_for(deployment, clients)
    before = os.sched_getaffinity(0)
    if serving is not None:
        os.sched_setaffinity(0, serving)
    alone = bare(deployment, images[:1], bare_seconds)
    os.sched_setaffinity(0, before - (serving or set()) or before)
    session = open_session(deployment.read_model())
    rows = [session.run(None, {INPUT_NAME: images[i : i + 1]})[0][0] for i in range(clients)]
    classes = [deployment.class_names[int(row.argmax())] for row in rows]
    try:
        with Server(deployment.folder, serving) as server:
            loads = {}
            for count in together:
                requests = [request_of(npy(np.repeat(image[np.newaxis], count, 0))) for image in images]
                loads[count] = bombard(server.address, server.process.pid, requests, classes, seconds)
            return alone, loads
    finally:
        os.sched_setaffinity(0, before)


def report(name: str, deployment: Deployment, clients: int, seconds: float) -> bool:
    alone, loads = measure(deployment, clients, seconds, min(5.0, seconds))
    print(
        f"{name}: the bare runtime classifies {alone.per_second:,.0f} images/s, one at a time; "
        f"{alone.per_cpu_second:,.0f} in a second of the processor's work"
    )
    for count, load in loads.items():
        print(f"  {clients} clients, {count} to a request: {load.words}")
        share = count * load.per_second / alone.per_second
        own = count * load.answered / load.server_cpu / alone.per_cpu_second
        print(f"    {share:.0%} of the bare throughput (aim: at least 70 %); {own:.0%} by the processor's work")
        for failure in load.failed[:3]:
            print(f"    failed: {failure}")
    return not any(load.failed for load in loads.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("deployment", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=8)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        chosen = (
            {str(given.deployment): load_deployment(given.deployment)}
            if given.deployment
            else {name: write_network(Path(folder) / name, widths) for name, widths in NETWORKS.items()}
        )
        fine = [report(name, deployment, given.clients, given.seconds) for name, deployment in chosen.items()]
    sys.exit(0 if all(fine) else 1)


if __name__ == "__main__":
    main()
