"""Requests and answers of ``nas.measure.protocol`` as JSON and raw numbers.

A request names its files and images by the SHA-256 of their bytes, which are sent apart, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from nas.errors import ArtifactError, MeasureError, NasError, UnsupportedError
from nas.measure.clock import Policy, summarise
from nas.measure.latency import Reading
from nas.measure.protocol import Answer, Describe, Interleave, Measure, Outputs, Request, Turns
from nas.measure.quiet import Surroundings
from nas.measure.remote.frame import array_of, described, pack, raw, unpack
from nas.measure.window import Window
from nas.outcome import Quantity
from nas.target import Target

# Of what stands in this file and of the paths that ``nas.measure.remote.web`` answers.
PROTOCOL = 1

# Longest that one request may sample, in ms: what ``nas measure --seconds`` allows.
LONGEST_MS = 600_000.0
MOST_ROUNDS = 1000
MOST_SAMPLES = 10_000_000

# What is told of a window's surroundings.
_SURROUNDINGS = ("slowdown", "busy_cores", "busy_same_cores", "waited", "mhz", "mhz_change")
_KINDS: Mapping[str, type[NasError]] = {kind.__name__: kind for kind in (ArtifactError, MeasureError, UnsupportedError)}


@dataclass(frozen=True)
class Startup:
    """Asks for load time and peak memory in fresh processes: answered by both quantities."""

    content: bytes = field(repr=False)
    target: Target
    images: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class StartAnew:
    """Asks for the end of the process that measures a target: answered by None."""

    target: Target


RemoteRequest = Request | Startup | StartAnew

# Gives the bytes that belong to a SHA-256, in hexadecimal.
Blobs = Callable[[str], bytes]


class Outgoing:
    """A request ready to be sent.

    Args:
        request: What is asked.
        sha_of: Gives the SHA-256 of bytes, in hexadecimal.

    ``data`` is its JSON; ``blobs`` the bytes that it names.
    """

    def __init__(self, request: RemoteRequest, sha_of: Callable[[bytes], str]) -> None:
        self.blobs: dict[str, bytes] = {}
        self._sha_of = sha_of
        self.data = {"target": request.target.name, **self._told(request)}

    def _told(self, request: RemoteRequest) -> dict[str, Any]:
        match request:
            case Describe():
                return {"ask": "describe"}
            case StartAnew():
                return {"ask": "start anew"}
            case Startup():
                return {"ask": "startup", **self._work([request.content], request.images)}
            case Measure():
                work = self._work([request.content], request.images)
                return {"ask": "measure", **work, "policy": asdict(request.policy), "overhead": request.overhead}
            case Outputs():
                return {"ask": "outputs", **self._work([request.content], request.images), "batch": request.batch}
            case Interleave():
                work = self._work(request.contents, request.images)
                return {"ask": "turns", **work, "policy": asdict(request.turn), "rounds": request.rounds}

    def _work(self, contents: Sequence[bytes], images: np.ndarray) -> dict[str, Any]:
        files = [self._blob(content) for content in contents]
        return {"files": files, "images": {"sha256": self._blob(raw(images)), **described(images)}}

    def _blob(self, content: bytes) -> str:
        sha = self._sha_of(content)
        self.blobs[sha] = content
        return sha


def named_blobs(data: Mapping[str, Any]) -> list[str]:
    """The SHA-256s that a request names.

    Raises:
        KeyError, TypeError, ValueError: It is no request.
    """
    if "images" not in data:
        return []
    names = [*data["files"], data["images"]["sha256"]]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("a file must be named by its SHA-256")
    return list(dict.fromkeys(names))


def read_request(data: Mapping[str, Any], blobs: Blobs) -> RemoteRequest:
    """The request that was sent.

    Raises:
        KeyError, TypeError, ValueError: It is none, or asks for more than anybody may.
        NasError: Its target is none.
    """
    target = Target.parse(str(data["target"]))
    asked = data["ask"]
    if asked == "describe":
        return Describe(target)
    if asked == "start anew":
        return StartAnew(target)
    images = array_of(data["images"], blobs(data["images"]["sha256"]))
    contents = tuple(blobs(name) for name in data["files"])
    if asked == "turns":
        rounds = _whole("rounds", data["rounds"], MOST_ROUNDS)
        return Interleave(contents, target, images, rounds, _policy(data["policy"]))
    (content,) = contents
    match asked:
        case "measure":
            return Measure(content, target, images, _policy(data["policy"]), bool(data["overhead"]))
        case "outputs":
            return Outputs(content, target, images, _whole("batch", data["batch"], max(1, len(images), 65_536)))
        case "startup":
            return Startup(content, target, images)
    raise ValueError(f"nobody can ask for {asked!r:.40}")


def _whole(name: str, value: object, most: int) -> int:
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{name} must be a whole number from 1 to {most}, but got {value!r:.40}")
    return value


def _policy(data: Mapping[str, Any]) -> Policy:
    policy = Policy(
        float(data["warmup_ms"]),
        _whole("minimum_samples", data["minimum_samples"], MOST_SAMPLES),
        float(data["minimum_ms"]),
        float(data["maximum_ms"]),
    )
    if not all(duration <= LONGEST_MS for duration in (policy.warmup_ms, policy.minimum_ms, policy.maximum_ms)):
        raise ValueError(f"nothing is sampled for longer than {LONGEST_MS:g} ms")
    return policy


def pack_answer(answer: Answer) -> bytes:
    """The bytes of an answer."""
    if answer.error is not None:
        kind = next((name for name, known in _KINDS.items() if isinstance(answer.error, known)), MeasureError.__name__)
        return pack({"error": {"kind": kind, "message": answer.error.message, "hint": answer.error.hint}})
    if answer.bug:
        return pack({"bug": answer.bug})
    value = answer.value
    if isinstance(value, Reading):
        told = {name: getattr(value, name) for name in ("windows", "threads", "overhead_ms")}
        around = {name: getattr(value.window.surroundings, name) for name in _SURROUNDINGS}
        data = {**told, "cores": list(value.cores), "detail": dict(value.detail), "surroundings": around}
        return pack(data, [value.window.samples_ns])
    if isinstance(value, Turns):
        arrays = [array for taken in value.samples_ns for array in taken]
        return pack({"models": len(value.samples_ns), "troubles": [list(names) for names in value.troubles]}, arrays)
    if isinstance(value, np.ndarray):
        return pack({}, [value])
    if isinstance(value, tuple):
        return pack({"quantities": [quantity.to_json() for quantity in value]})
    return pack({"value": value})


def read_answer(request: RemoteRequest, content: bytes) -> Answer:
    """The answer that was sent.

    Raises:
        ValueError: It is none, or answers something else.
    """
    data, arrays = unpack(content)
    try:
        if "error" in data:
            error = data["error"]
            return Answer(error=_KINDS.get(error["kind"], MeasureError)(str(error["message"]), str(error["hint"])))
        if "bug" in data:
            return Answer(bug=str(data["bug"]))
        return Answer(_value(request, data, arrays))
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"the answer lacks something: {error!r:.200}") from None


def _value(request: RemoteRequest, data: Mapping[str, Any], arrays: Sequence[np.ndarray]) -> Any:
    match request:
        case Describe():
            return {str(name): value for name, value in data["value"].items()}
        case StartAnew():
            return None
        case Startup():
            load, memory = (Quantity.from_json(quantity) for quantity in data["quantities"])
            return load, memory
        case Outputs():
            (outputs,) = arrays
            return outputs
        case Measure():
            (samples,) = arrays
            window = Window(samples, summarise(samples, request.target.batch), Surroundings(**data["surroundings"]))
            cores, detail = tuple(data["cores"]), dict(data["detail"])
            return Reading(request.target, window, data["windows"], data["threads"], cores, data["overhead_ms"], detail)
        case Interleave():
            rounds = request.rounds
            if data["models"] != len(request.contents) or len(arrays) != data["models"] * rounds:
                raise ValueError(f"{len(arrays)} turns are not {rounds} of each model")
            taken = [tuple(arrays[start : start + rounds]) for start in range(0, len(arrays), rounds)]
            return Turns(tuple(taken), tuple(tuple(names) for names in data["troubles"]))
