"""Verify the commits that lead to a revision, before anything of it is read as policy.

In:   Verification, SignedCommit values
Out:  nothing, or StalledError that says what speaks against them
Joins the programs and the rules.
"""

from __future__ import annotations

from collections.abc import Iterable

from netpolicy.errors import StalledError
from netpolicy.status import Reason
from reconciler.signatures.programs import signers_of
from reconciler.signatures.rules import Verification, Vouched, complaints, complaints_text
from reconciler.source.signed import SignedCommit


def check_signatures(verification: Verification, commits: Iterable[SignedCommit]) -> None:
    """Raises StalledError if any commit is not signed by somebody who may change what it changed."""
    vouched = (
        Vouched(
            commit=one.commit,
            signers=signers_of(verification, one.signature, one.payload),
            paths=one.paths,
        )
        for one in commits
    )
    found = complaints(verification, vouched)
    if found:
        raise StalledError(complaints_text(found), reason=Reason.VERIFICATION)
