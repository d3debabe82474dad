"""Units in; TUF metadata and targets out."""

from reconciler.publication import Candidate, Publication
from reconciler.sign.held import Held, HeldReader, read_held
from reconciler.sign.keys import Signer, init_keys, rotate
from reconciler.sign.publish import (
    Lifetimes,
    expiry_of,
    is_ageing,
    refresh_timestamp,
    sign_publication,
)
from reconciler.sign.targets import content_of, units_of

__all__ = [
    "Candidate",
    "Held",
    "HeldReader",
    "Lifetimes",
    "Publication",
    "Signer",
    "content_of",
    "expiry_of",
    "init_keys",
    "is_ageing",
    "read_held",
    "refresh_timestamp",
    "rotate",
    "sign_publication",
    "units_of",
]
