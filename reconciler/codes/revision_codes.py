"""TG4xx: what can be wrong with a revision as a whole.

Pure data. Codes are permanent: a retired one is never given to another fault.
"""

from __future__ import annotations

from typing import Final

from reconciler.codes.code import Code

REVISION_CODES: Final[dict[str, Code]] = {
    "TG401": Code(
        "revision that removes every policy",
        "with no policy every pod may talk to every other; a moved or emptied folder looks the same",
        "restore the folder, or set allowEmpty: true in tidegate.yaml",
    ),
    "TG402": Code(
        "rule that a node cannot enforce",
        "a revision is enforced whole on every node or not at all: a part would promise more than it keeps",
        "bring agents with the capability to all nodes, or remove the rule",
    ),
    "TG403": Code(
        "intent that does not hold",
        "the files below tests/ say what must pass and what must not, whatever the policies say",
        "correct the policies or, if it is no longer meant, the intent; `tidegate test` shows all of them",
    ),
    "TG404": Code(
        "pods whose connections two policies treat in two ways",
        "no node that has such a pod could enforce both, so the revision is refused, and what was enforced"
        " before stays",
        "give the rules different ports or (where TLS is ended) different serverNames, or change the pods'"
        " labels: then the revision is judged again",
    ),
}  # fmt: skip
