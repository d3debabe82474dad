"""Crash reports carry type, frames and four tags; nothing that anybody wrote.

Each crash is a real process that really dies; its report goes to a real server on loopback.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from netpolicy import crash_reports
from tests.support.crash_sink import CrashSink, crash_sink

SECRET = "hunter2-very-secret"
POLICY_TEXT = "matchLabels-team-blue"
COMMIT = "0123456789abcdef0123456789abcdef01234567"

CRASH = f"""
import logging, os, sys, threading
import sentry_sdk
from netpolicy import crash_reports

assert crash_reports.init("nodeagent", node="node-a", dsn=os.environ["TIDEGATE_SENTRY_DSN"])
crash_reports.set_revision("{COMMIT}")
sentry_sdk.add_breadcrumb(message="{SECRET}", data={{"policy": "{POLICY_TEXT}"}})
sentry_sdk.set_extra("payload", "{SECRET}")
sentry_sdk.set_context("policy", {{"text": "{POLICY_TEXT}"}})
sentry_sdk.set_user({{"id": "{SECRET}"}})
sentry_sdk.set_tag("selector", "{POLICY_TEXT}")
logging.getLogger("x").error("{SECRET} in %s", "{POLICY_TEXT}")

def compile_policy(text):
    local_secret = "{SECRET}"
    try:
        raise KeyError(text)
    except KeyError as error:
        raise RuntimeError("cannot compile {POLICY_TEXT} with {SECRET}") from error

"""


def crash(sink: CrashSink, ending: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CRASH + ending, *arguments],
        env={**os.environ, "TIDEGATE_SENTRY_DSN": sink.dsn, "PASSWORD": SECRET, "PYTHONPATH": "."},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def events(sink: CrashSink) -> list[dict[str, Any]]:
    found = []
    for request in sink.requests:
        lines = [json.loads(line) for line in request.splitlines() if line.startswith("{")]
        found += [line for line in lines if "exception" in line]
    return found


def test_an_uncaught_exception_arrives_with_its_type_frames_and_tags() -> None:
    with crash_sink() as sink:
        assert crash(sink, f"compile_policy('{POLICY_TEXT}')").returncode == 1
        (event,) = events(sink)
    assert [value["type"] for value in event["exception"]["values"]] == ["KeyError", "RuntimeError"]
    last = event["exception"]["values"][-1]["stacktrace"]["frames"][-1]
    assert (last["function"], last["module"]) == ("compile_policy", "__main__")
    assert last["lineno"] > 0
    assert event["tags"].pop("version")
    assert event["tags"] == {"program": "nodeagent", "node": "node-a", "revision": COMMIT}
    assert event["server_name"] == "node-a"


@pytest.mark.parametrize(
    "ending",
    [
        f"compile_policy('{POLICY_TEXT}')",
        f"threading.Thread(target=compile_policy, args=('{POLICY_TEXT}',)).start()",
        f"open('/nowhere/{POLICY_TEXT}')",
        f"raise ExceptionGroup('{SECRET}', [ValueError('{POLICY_TEXT}')])",
        f"try: compile_policy('{POLICY_TEXT}')\nexcept RuntimeError as error: "
        "crash_reports.report(error)",
    ],
    ids=["main", "thread", "path", "group", "reported"],
)
def test_no_secret_and_no_policy_text_leaves_with_a_crash(ending: str) -> None:
    with crash_sink() as sink:
        crash(sink, ending, "--token", SECRET)
        assert len(events(sink)) == 1
        arrived = sink.everything
    assert SECRET not in arrived
    assert POLICY_TEXT not in arrived
    assert "Traceback" not in arrived
    assert str(Path(__file__).parents[2]) not in arrived, "no path of this machine"


def test_only_the_crash_itself_is_sent() -> None:
    with crash_sink() as sink:
        crash(sink, f"sentry_sdk.capture_message('{SECRET}')")
        assert sink.requests == []


def test_an_operating_system_error_keeps_its_number() -> None:
    with crash_sink() as sink:
        crash(sink, "open('/nowhere/at-all')")
        (event,) = events(sink)
    mechanism = event["exception"]["values"][-1]["mechanism"]
    assert mechanism["meta"] == {"errno": {"number": 2}}


def test_a_dead_server_neither_hides_the_crash_nor_holds_up_the_exit() -> None:
    sink = CrashSink(1)
    finished = crash(sink, "compile_policy('x')")
    assert finished.returncode == 1
    assert "RuntimeError" in finished.stderr


def test_without_a_dsn_nothing_is_imported_nor_reported() -> None:
    program = (
        "import sys; from netpolicy import crash_reports\n"
        "assert not crash_reports.init('tidegate', dsn='')\n"
        "crash_reports.set_revision('0123456789')\n"
        "crash_reports.report(ValueError())\n"
        "assert 'sentry_sdk' not in sys.modules\n"
    )
    environment = {"PATH": os.environ["PATH"], "SENTRY_DSN": "http://k@127.0.0.1:1/1"}
    subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], env=environment, check=True
    )


def test_a_malformed_dsn_is_refused_without_quoting_it() -> None:
    with pytest.raises(ValueError, match="malformed") as refusal:
        crash_reports.init("tidegate", dsn=f"http://{SECRET}")
    assert SECRET not in str(refusal.value)


def test_a_revision_that_is_no_commit_is_left_out() -> None:
    with crash_sink() as sink:
        crash(sink, f"crash_reports.set_revision('{SECRET}')\ncompile_policy('x')")
        (event,) = events(sink)
    assert event["tags"]["revision"] == COMMIT


def test_our_own_variable_for_the_dsn_wins() -> None:
    both = {"SENTRY_DSN": "b", "TIDEGATE_SENTRY_DSN": "a"}
    assert crash_reports.dsn_from(both) == "a"
    assert crash_reports.dsn_from({"SENTRY_DSN": "b", "TIDEGATE_SENTRY_DSN": ""}) == "b"
    assert crash_reports.dsn_from({}) == ""


def test_an_event_of_unexpected_shape_is_scrubbed_to_nothing() -> None:
    odd = {"exception": {"values": [{"value": SECRET, "stacktrace": None, "mechanism": None}]}}
    assert SECRET not in json.dumps(crash_reports.scrub({**odd, "tags": None, "extra": SECRET}))
