"""A PostgreSQL of the tests' own: a cluster in a temporary folder, reached by a socket there, ended with the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

PASSWORD = "p@ss word/1"


def binaries() -> Path | None:
    """Where PostgreSQL's programs lie; None where it is not installed, or nobody may run it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("pg_ctl")
    return Path(on_path).resolve().parent if on_path else None


def runs_as() -> str | None:
    """The user that PostgreSQL runs as, which must not be root; None where there is none."""
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid()).pw_name
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


class Cluster:
    """Runs within its block."""

    def __enter__(self) -> Cluster:
        programs, user = binaries(), runs_as()
        assert programs is not None and user is not None  # noqa: PT018
        self.programs, self.user = programs, user
        self.folder = Path(tempfile.mkdtemp(prefix="nas-pg-", dir="/tmp"))  # a socket's path may not be long
        password = self.folder / "password"
        password.write_text(PASSWORD)
        if os.getuid() == 0:
            for path in (self.folder, password):
                shutil.chown(path, user)
        try:
            common = ("--username=nas", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync", "--locale=C")
            self._run("initdb", f"--pgdata={self.folder / 'data'}", "--encoding=UTF8", *common)
            self.pg_ctl("start")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if (self.folder / "data" / "postmaster.pid").exists():
            self.pg_ctl("stop", "-m", "immediate")
        shutil.rmtree(self.folder)

    def pg_ctl(self, verb: str, *options: str) -> None:
        """Starts, stops or restarts the server, and waits for that."""
        settings = (
            f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off -c shared_buffers=16MB"
        )
        given = ("-o", settings, "-l", str(self.folder / "log")) if verb != "stop" else ()
        self._run("pg_ctl", verb, "-D", str(self.folder / "data"), "-w", "-t", "60", *given, *options)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        as_other = {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": []}
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # the server would keep a pipe open
            stderr=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
            check=False,
            cwd=self.folder,
            timeout=120,
            **(as_other if os.getuid() == 0 else {}),  # type: ignore[call-overload]
        )
        assert done.returncode == 0, f"{program}: {(done.stderr or b'').decode()}"

    def url(self, database: str = "postgres", password: str | None = PASSWORD) -> str:
        """The URL of a database of it."""
        secret = "" if password is None else f":{quote(password, safe='')}"
        return f"postgresql://nas{secret}@/{database}?host={self.folder}"
