"""A measuring process that the tests of a file share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nas.measure.process import MeasuringProcess


@pytest.fixture(scope="module")
def own_lease(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever else runs on this machine is not waited for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_LEASE_FOLDER", str(tmp_path_factory.mktemp("lease") / "folder"))
        yield


@pytest.fixture(scope="module")
def shared_process(own_lease: None) -> Iterator[MeasuringProcess]:
    process = MeasuringProcess()
    yield process
    process.close()


@pytest.fixture
def process(shared_process: MeasuringProcess) -> MeasuringProcess:
    """One that is up; what a test does to it must not trouble the next."""
    shared_process.timeout_seconds = 120
    return shared_process


@pytest.fixture(scope="module", autouse=True)
def hasty() -> None:
    """Measuring is what is tested here, so it takes as long as a person's does."""
