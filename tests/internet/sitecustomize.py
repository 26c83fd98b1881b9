"""Keep a Python process off the internet: its host names lead to loopback or nowhere, and a file tells what it tried.

Python imports a module of this name when it starts; the tests put this folder on the path of the processes they run.
`INTERNET` in the environment maps host names to a port on loopback, or to null for a look-up that never returns; no
other name resolves. Every look-up and every connection is a line of the file `INTERNET_LOG`.
"""

import json
import os
import signal
import socket
import sys
import threading
from typing import Any

PORTS: dict[str, int | None] = json.loads(os.environ["INTERNET"])
LOG = open(os.environ["INTERNET_LOG"], "a", buffering=1, encoding="utf-8")
look_up = socket.getaddrinfo


def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
    if host in PORTS:
        hanging = PORTS[host] is None
        if hanging:  # nothing gets through a real look-up either
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        LOG.write(f"look-up {host}\n")
        if hanging:
            threading.Event().wait()
        host, port = "127.0.0.1", PORTS[host]
    return look_up(host, port, *args, **kwargs)


def audit(event: str, args: tuple[Any, ...]) -> None:
    if event in ("socket.getaddrinfo", "socket.gethostbyname") and args[0] != "127.0.0.1":
        LOG.write(f"look-up {args[0]}\n")
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    if event in ("socket.connect", "socket.sendto") and args[0].family != socket.AF_UNIX:
        LOG.write("connection to {}:{}\n".format(*args[1]))
        if args[1][0] != "127.0.0.1":
            raise OSError("no internet here")
    if event == "subprocess.Popen":  # Some providers start a browser, and nothing here holds that.
        raise FileNotFoundError(args[0])


socket.getaddrinfo = getaddrinfo
sys.addaudithook(audit)
