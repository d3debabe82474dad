"""Which node a token speaks for, by what the API server says of it.

In:   the answer to a TokenReview; the pod that the token is bound to
Out:  the node's name, or Refused
Pure.

Holds always:
1. A token counts only if the API server says that it is good, and good for us: an answer that leaves
   the audience out is that of a server that did not look at it.
2. The node is the one that the pod of the token was bound to, never what anybody claims. A token that
   is bound to no pod speaks for no node.
3. The pod must be the very one (uid) that the token was made for, under that service account still.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from netpolicy.errors import TransientError
from reconciler.bootstrap.refused import Refused, Why

AUDIENCE: Final = "tidegate-push"
MAX_TOKEN_CHARACTERS: Final = 8192
POD_NAME: Final = "authentication.kubernetes.io/pod-name"
POD_UID: Final = "authentication.kubernetes.io/pod-uid"
NODE_NAME: Final = "authentication.kubernetes.io/node-name"
"""Only newer API servers say it; it must then agree with the pod."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_POD: Final = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentAccount:
    """The service account that agents run under, and no other pod does."""

    namespace: str
    name: str

    @property
    def username(self) -> str:
        """As the API server names it."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundPod:
    """The pod that a token was made for. `node` is empty if the API server does not say it."""

    name: str
    uid: str
    node: str


class _User(msgspec.Struct):
    username: str = ""
    extra: dict[str, list[str]] | None = None


class _ReviewStatus(msgspec.Struct):
    authenticated: bool = False
    audiences: list[str] | None = None
    user: _User = msgspec.field(default_factory=_User)


class _Review(msgspec.Struct):
    status: _ReviewStatus = msgspec.field(default_factory=_ReviewStatus)


class _Metadata(msgspec.Struct):
    uid: str = ""


class _PodSpec(msgspec.Struct):
    nodeName: str = ""
    serviceAccountName: str = ""


class _Pod(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)


def check_form(token: str) -> None:
    """Raise Refused for what cannot be a token: the API server is not asked about it."""
    if len(token) > MAX_TOKEN_CHARACTERS or not _TOKEN.fullmatch(token):
        raise Refused(Why.NOT_AN_AGENT, "what came is no service account token")


def bound_pod(review: bytes, *, account: AgentAccount) -> BoundPod:
    """The pod that a token is bound to. Raises Refused, or TransientError for an answer that is none."""
    status = _decode(review, _Review).status
    if not status.authenticated:
        raise Refused(Why.NOT_AN_AGENT, "the API server does not take the token for good")
    if AUDIENCE not in (status.audiences or ()):
        raise Refused(Why.NOT_AN_AGENT, f"the token is not for the audience {AUDIENCE}")
    if status.user.username != account.username:
        raise Refused(Why.NOT_AN_AGENT, f"{status.user.username} is not {account.username}")
    extra = status.user.extra or {}
    pod = BoundPod(
        name=_one(extra, POD_NAME), uid=_one(extra, POD_UID), node=_one(extra, NODE_NAME)
    )
    if not _POD.fullmatch(pod.name) or not pod.uid:
        raise Refused(Why.NOT_AN_AGENT, "the token is bound to no pod")
    return pod


def node_of_pod(pod: bytes, bound: BoundPod, *, account: AgentAccount) -> str:
    """The node of the pod. Raises Refused, or TransientError for an answer that is none."""
    found = _decode(pod, _Pod)
    if found.metadata.uid != bound.uid or found.spec.serviceAccountName != account.name:
        raise Refused(Why.NOT_AN_AGENT, f"pod {bound.name} is not the one the token was made for")
    node = found.spec.nodeName
    if not node or bound.node not in ("", node):
        raise Refused(Why.NOT_AN_AGENT, f"it is not certain on which node pod {bound.name} is")
    return node


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise TransientError(f"what the API server sent cannot be read: {error}") from error


def _one(extra: dict[str, list[str]], key: str) -> str:
    """The only value of a key; empty if there is none, or more than one."""
    values = extra.get(key, [])
    return values[0] if len(values) == 1 else ""
