"""Policy files made from a text with gaps, as the source would hand them on.

In:   a text, a number, what else goes into its gaps
Out:  a SourceFile
Pure.
"""

from __future__ import annotations

import hashlib

from reconciler.files import SourceFile


def policy_file(text: str, number: int, *, namespaces: int, **gaps: object) -> SourceFile:
    """The file of policy `number`, one of many spread over so many namespaces."""
    namespace = number % namespaces
    data = text.format(number=number, namespace=namespace, block=number % 200, **gaps).encode()
    return SourceFile(
        path=f"policies/team-{namespace}/app-{number}.yaml",
        blob_id=hashlib.sha1(data, usedforsecurity=False).hexdigest(),
        data=data,
    )
