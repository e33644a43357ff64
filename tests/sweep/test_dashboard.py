"""Optuna's dashboard on a queue of ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from services.processes import free_ports
from test_queue import enqueue

from x2c.core.errors import UserError
from x2c.core.script import PROJECT
from x2c.sweep.show.dashboard import default_url, main


def answer(url, seconds=40):
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                return json.load(reply)
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_it_shows_the_studies_on_loopback(make_plan):
    pytest.importorskip("optuna_dashboard")
    plan = make_plan()
    enqueue(plan)
    (port,) = free_ports(1)
    line = [sys.executable, "-m", "x2c.sweep", "dashboard", "--runs", str(plan.runs), "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    server = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert f"http://127.0.0.1:{port}" in server.stdout.readline()
        studies = answer(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
        assert [study["study_name"] for study in studies] == [plan.study]
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=20)


def test_what_is_not_there_is_one_line(tmp_path, make_plan):
    with pytest.raises(UserError, match=r"there is no .*sweeps\.db; run one, or give --storage"):
        default_url(tmp_path)
    with pytest.raises(UserError, match="the dashboard shows the whole database"):
        main(["--loss.l1.weight=1", "--runs", str(tmp_path)])
    pytest.importorskip("optuna_dashboard")
    with pytest.raises(UserError, match=r"--storage: expected a database URL that works, such as .*; got nonsense"):
        main(["--storage", "nonsense", "--port", str(free_ports(1)[0])])
