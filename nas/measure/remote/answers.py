"""What the agent does with a request: the measuring processes answer it, as they would on the device itself."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Mapping
from typing import Any

from nas.errors import MeasureError, NasError, UnsupportedError
from nas.measure.process import TIMEOUT_SECONDS, MeasuringProcess
from nas.measure.protocol import Answer, Describe, Interleave
from nas.measure.remote.wire import Blobs, RemoteRequest, StartAnew, Startup, pack_answer, read_request
from nas.measure.startup import measure_startup
from nas.safety.onnx_file import check_onnx
from nas.target import RUNTIMES, Target

# Another runtime would execute what is no ONNX (an exported torch program, a compiler's output).
OFFERED = ("onnxruntime",)


class Answers:
    """Answers requests, one at a time, in processes that stay up.

    Args:
        blobs: Gives the bytes of a SHA-256.
        timeout_seconds: Longest that a request may take without getting on.
    """

    def __init__(self, blobs: Blobs, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.blobs = blobs
        self.timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._processes: dict[tuple[str, str, int | None], MeasuringProcess] = {}

    def answer(self, data: Mapping[str, Any]) -> bytes:
        """Does what a request asks; what is wrong with it is an answer too."""
        try:
            answer = Answer(self._value(read_request(data, self.blobs)))
        except NasError as error:
            answer = Answer(error=error)
        except (KeyError, TypeError, ValueError) as error:
            answer = Answer(error=UnsupportedError(f"the agent does not understand the request: {error!r:.200}"))
        except MemoryError:
            answer = Answer(error=MeasureError("the device has not enough memory to measure the model"))
        except Exception:
            answer = Answer(bug=traceback.format_exc())
        return pack_answer(answer)

    def close(self) -> None:
        """Ends the processes, whatever they are at; another thread that waits for one hears of it."""
        with self._lock:
            processes = list(self._processes.values())
        for process in processes:
            process.close()

    def _value(self, request: RemoteRequest) -> Any:
        target = request.target
        if target.runtime not in OFFERED:
            names = ", ".join(RUNTIMES[name].title for name in OFFERED)
            raise UnsupportedError(f"target '{target.name}': a device measures on {names} alone, which runs ONNX files")
        target.check_cores()
        process = self._process(target)
        match request:
            case StartAnew():
                process.close()
                return None
            case Describe():
                return process.ask(request)
            case Startup():
                check_onnx(request.content, "the model")
                process.ask(Describe(target))  # a runtime that is missing is told in words
                return measure_startup(request.content, target, request.images)
            case _:
                for content in request.contents if isinstance(request, Interleave) else (request.content,):
                    check_onnx(content, "the model")
                return process.ask(request)

    def _process(self, target: Target) -> MeasuringProcess:
        key = (target.runtime, target.device, target.threads)
        with self._lock:
            if key not in self._processes:
                self._processes[key] = MeasuringProcess(target.threads, self.timeout_seconds)
            return self._processes[key]
