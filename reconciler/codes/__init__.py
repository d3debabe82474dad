"""The diagnostics of policies: what each code means, once, for the programs and their manual.

TG050–TG063 (YAML) are in `netpolicy.yaml_faults`. TG1xx: fields. TG2xx: meaning. TG3xx: warnings.
TG4xx: the revision as a whole.
"""

from reconciler.codes.catalogue import CODES, fault
from reconciler.codes.code import Code

__all__ = ["CODES", "Code", "fault"]
