"""Units in; TUF metadata and targets out."""

from reconciler.publication import Candidate, Publication
from reconciler.sign.keys import Signer, init_keys, rotate
from reconciler.sign.publish import (
    Lifetimes,
    expiry_of,
    is_ageing,
    refresh_timestamp,
    sign_publication,
)
from reconciler.sign.targets import content_of, units_of
from reconciler.sign.withdrawal import Withdrawal, read_withdrawal

__all__ = [
    "Candidate",
    "Lifetimes",
    "Publication",
    "Signer",
    "Withdrawal",
    "content_of",
    "expiry_of",
    "init_keys",
    "is_ageing",
    "read_withdrawal",
    "refresh_timestamp",
    "rotate",
    "sign_publication",
    "units_of",
]
