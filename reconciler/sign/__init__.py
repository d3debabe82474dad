"""Units in; TUF metadata and targets out."""

from reconciler.publication import Publication
from reconciler.sign.keys import Signer, init_keys, rotate
from reconciler.sign.publish import Lifetimes, is_ageing, refresh_timestamp, sign_publication

__all__ = [
    "Lifetimes",
    "Publication",
    "Signer",
    "init_keys",
    "is_ageing",
    "refresh_timestamp",
    "rotate",
    "sign_publication",
]
