"""Ask the API server which node a token speaks for.

In:   a token
Out:  the node's name; Refused, or TransientError if the API server cannot be asked
Shell over two requests: a TokenReview, and the pod that the token is bound to.
"""

from __future__ import annotations

from typing import Any, Final

from netpolicy.kube_api import NOT_FOUND, KubeApi, KubeRefusal
from reconciler.bootstrap.refused import Refused, Why
from reconciler.bootstrap.speaker import (
    AUDIENCE,
    AgentAccount,
    bound_pod,
    check_form,
    node_of_pod,
)

TOKEN_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105  a path


class TokenReviews:
    """The tokens of one service account."""

    def __init__(self, api: KubeApi, account: AgentAccount) -> None:
        self._api = api
        self._account = account

    async def node_of(self, token: str) -> str:
        """The node that a token speaks for."""
        check_form(token)
        review = await self._api.create(TOKEN_REVIEWS, _review(token))
        bound = bound_pod(review, account=self._account)
        path = f"/api/v1/namespaces/{self._account.namespace}/pods/{bound.name}"
        try:
            pod = await self._api.read(path)
        except KubeRefusal as refusal:
            if refusal.status != NOT_FOUND:
                raise
            raise Refused(Why.NOT_AN_AGENT, f"there is no pod {bound.name} any more") from refusal
        return node_of_pod(pod, bound, account=self._account)


def _review(token: str) -> dict[str, Any]:
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [AUDIENCE]},
    }
