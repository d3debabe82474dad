"""Crash reports of either program, to a Sentry-compatible server, if its operator gives a DSN.

In:   a DSN, the program's name, the node; later the revision and crashes
Out:  one report a crash: exception type and frames (module, function, line), and four tags
A shell: installs the exception hooks, and sends. Without `init` nothing is imported or sent.

Holds always:
1. A report is built anew from what `scrub` lists; whatever else the library collects stays here.
2. No text that a program, an author or a packet made up leaves: no exception message, local
   variable, log line, breadcrumb, command line, environment, source line or file path.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

DSN_VARIABLES: Final = ("TIDEGATE_SENTRY_DSN", "SENTRY_DSN")
FLUSH_SECONDS: Final = 2.0
"""How long a crashing program waits for its report: a dead server must not hold up the restart."""

_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")
_TAGS: Final = ("program", "node", "revision", "version")
_PLAIN: Final = ("event_id", "timestamp", "level", "platform", "release", "server_name")


def dsn_from(environment: Mapping[str, str]) -> str:
    """The DSN that a program's environment names, or the empty text."""
    return next((environment[name] for name in DSN_VARIABLES if environment.get(name)), "")


def init(program: str, *, dsn: str, node: str = "") -> bool:
    """Report this program's crashes from now on; without a DSN do nothing and return False.

    Uncaught exceptions of the main and of other threads are reported by themselves; an asyncio
    task's top calls `report`. Raises ValueError, naming no part of the DSN, if it is malformed.
    """
    if not dsn:
        return False
    # Imported here: a program that reports nothing does not pay for the library's memory.
    import sentry_sdk  # noqa: PLC0415
    from sentry_sdk.integrations.atexit import AtexitIntegration  # noqa: PLC0415
    from sentry_sdk.integrations.excepthook import ExcepthookIntegration  # noqa: PLC0415
    from sentry_sdk.integrations.threading import ThreadingIntegration  # noqa: PLC0415
    from sentry_sdk.utils import BadDsn  # noqa: PLC0415

    release = _installed_version()
    try:
        sentry_sdk.init(
            dsn=dsn,
            release=f"tidegate@{release}",
            server_name=node,
            before_send=_before_send,
            before_breadcrumb=_drop_breadcrumb,
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[
                AtexitIntegration(callback=_say_nothing),
                ExcepthookIntegration(),
                ThreadingIntegration(propagate_scope=False),
            ],
            ignore_errors=[KeyboardInterrupt],
            shutdown_timeout=FLUSH_SECONDS,
            max_breadcrumbs=0,
            max_request_body_size="never",
            include_local_variables=False,
            include_source_context=False,
            # Everything that is not a crash stays off, whatever the environment says.
            auto_session_tracking=False,
            send_client_reports=False,
            enable_logs=False,
            enable_metrics=False,
            traces_sample_rate=None,
            spotlight=False,
            debug=False,
        )
    except BadDsn as error:
        raise ValueError(
            "the crash report DSN is malformed: want https://KEY@HOST/NUMBER"
        ) from error
    scope = sentry_sdk.get_global_scope()
    for tag, value in (("program", program), ("node", node), ("version", release)):
        scope.set_tag(tag, value)
    return True


def set_revision(revision: str) -> None:
    """Name the Git commit at work in later reports; anything but a commit's hex is left out."""
    if (sdk := _enabled_sdk()) and _COMMIT.fullmatch(revision):
        sdk.get_global_scope().set_tag("revision", revision)


def report(error: BaseException) -> None:
    """Report a crash that a task's top caught; nothing happens unless `init` was given a DSN."""
    if sdk := _enabled_sdk():
        sdk.capture_exception(error)


def scrub(event: Mapping[str, Any]) -> dict[str, Any]:
    """The report that may leave this machine: a new event of known, harmless parts only."""
    kept = {name: event[name] for name in _PLAIN if name in event}
    tags = event.get("tags") or {}
    kept["tags"] = {name: str(tags[name]) for name in _TAGS if tags.get(name)}
    kept["exception"] = {"values": list(_exceptions(event))}
    return kept


def _installed_version() -> str:
    try:
        return version("tidegate")
    except PackageNotFoundError:
        return "uninstalled"  # run from a source tree


def _exceptions(event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each exception of the chain, without its message."""
    for value in (event.get("exception") or {}).get("values") or ():
        frames = (value.get("stacktrace") or {}).get("frames") or ()
        yield {
            "type": value.get("type"),
            "module": value.get("module"),
            "mechanism": _mechanism(value.get("mechanism") or {}),
            "stacktrace": {"frames": [_frame(frame) for frame in frames]},
        }


def _mechanism(mechanism: Mapping[str, Any]) -> dict[str, Any]:
    """Which hook caught it, and the number of an OSError: its text may hold a path."""
    kept = {name: mechanism[name] for name in ("type", "handled") if name in mechanism}
    number = ((mechanism.get("meta") or {}).get("errno") or {}).get("number")
    return {**kept, "meta": {"errno": {"number": number}}} if isinstance(number, int) else kept


def _frame(frame: Mapping[str, Any]) -> dict[str, Any]:
    return {name: frame.get(name) for name in ("module", "function", "lineno", "in_app")}


def _before_send(event: Event, hint: Hint) -> Event | None:
    hint.pop("attachments", None)
    if not (event.get("exception") or {}).get("values"):
        return None
    scrubbed: Any = scrub(event)
    return scrubbed  # type: ignore[no-any-return]


def _drop_breadcrumb(_crumb: dict[str, Any], _hint: dict[str, Any]) -> None:
    """Breadcrumbs quote log lines and requests: none is kept."""


def _say_nothing(_pending: int, _timeout: float) -> None:
    """In place of the library's message on standard error while it flushes."""


def _enabled_sdk() -> Any:
    """The library if `init` enabled it in this process, else None; never imports it."""
    sdk = sys.modules.get("sentry_sdk")
    return sdk if sdk is not None and sdk.is_initialized() else None
