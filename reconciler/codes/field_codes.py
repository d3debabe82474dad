"""TG1xx: what can be wrong with the fields of one document.

Pure data. Codes are permanent: a retired one is never given to another fault.
"""

from __future__ import annotations

from typing import Final

from reconciler.codes.code import Code

FIELD_CODES: Final[dict[str, Code]] = {
    "TG100": Code(
        "kind that is not a policy",
        "everything under policies/ is enforced or refused, never passed over in silence",
        "move it out of policies/, or correct the kind",
    ),
    "TG101": Code(
        "wrong apiVersion",
        "the version decides which fields exist and what they mean",
        "write the apiVersion shown",
    ),
    "TG102": Code(
        "document that is not an object",
        "a policy is a mapping with apiVersion, kind, metadata and spec",
        "write one policy in each document, separated by ---",
    ),
    "TG103": Code(
        "missing field",
        "without it the policy has no meaning",
        "add the field",
    ),
    "TG105": Code(
        "unknown field",
        "Kubernetes drops fields it does not know; what you meant by it would be lost",
        "correct the name, or remove the field",
    ),
    "TG106": Code(
        "wrong type",
        "Kubernetes refuses the policy",
        "write a value of the type that is asked for",
    ),
    "TG107": Code(
        "empty field",
        "a field without a value counts as left out, and a rule without it may match everyone",
        "give it a value; [] and {} say that it is empty on purpose",
    ),
    "TG108": Code(
        "value that is not one of the allowed ones",
        "the field takes one of a few words, written exactly so",
        "write one of the words shown",
    ),
    "TG109": Code(
        "too many or too few entries",
        "the policy language bounds the list",
        "split the rule in two, or complete the list",
    ),
    "TG110": Code(
        "field that is not enforced yet",
        "a policy that is enforced only in part would promise more than it keeps",
        "leave the field out until this version enforces it",
    ),
    "TG111": Code(
        "not a block of addresses",
        "the rule would match no address, or other ones than you mean",
        "write an address and a prefix length, as in 10.0.0.0/8 or 2001:db8::/32",
    ),
    "TG112": Code(
        "not a label key",
        "no pod can carry such a label, so the selector would never match as meant",
        "write [source:][prefix/]name with letters, digits, '-', '_' and '.', the name up to 63 long",
    ),
    "TG113": Code(
        "not a label value",
        "no pod can carry such a value, so the selector would never match as meant",
        "write up to 63 letters, digits, '-', '_' and '.', in quotes if it looks like a number or a truth",
    ),
    "TG114": Code(
        "not a port",
        "a port is a number from 0 to 65535",
        "write the number",
    ),
    "TG116": Code(
        "not an ICMP type",
        "ICMP types are numbers from 0 to 255, or the names Cilium gives them",
        "write the number of the type, or its name for the right family",
    ),
    "TG117": Code(
        "not a name",
        "Kubernetes refuses it",
        "write lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit",
    ),
    "TG118": Code(
        "unknown mode",
        "the annotation tidegate.dev/mode decides where the policy is enforced",
        "write dry-run, canary or enforce, or leave the annotation out",
    ),
    "TG119": Code(
        "unknown Tidegate annotation",
        "a misspelt annotation would change nothing, in silence",
        "correct it; this version knows tidegate.dev/mode",
    ),
    "TG120": Code(
        "operator and values do not fit",
        "In and NotIn compare with values; Exists and DoesNotExist take none",
        "add values, or remove them",
    ),
    "TG121": Code(
        "requirement on nothing",
        "fromRequires and toRequires are no longer part of the language",
        "add the labels to the selectors of the peers",
    ),
    "TG122": Code(
        "not a regular expression",
        "method, path and host are regular expressions in RE2's syntax, and match the whole text",
        "correct the expression",
    ),
    "TG123": Code(
        "not a DNS name",
        "no such name can be asked for, so the rule would never match as meant",
        "write letters, digits, '-' and '_' between dots, up to 255 long; '*' only in patterns",
    ),
    "TG124": Code(
        "not a word of Kafka",
        "no request carries it, so the rule would never match as meant",
        "write an API's name such as produce, a version's number, or letters, digits, '.', '_' and '-'",
    ),
    "TG125": Code(
        "fields that exclude each other",
        "exactly one of them says what is meant",
        "write one of them",
    ),
    "TG126": Code(
        "not a header",
        "no request carries it, so the rule would never match as meant",
        'write "Name: value", or the name alone to mean any value',
    ),
    "TG127": Code(
        "text that is too long",
        "it goes with every flow that the policy decides",
        "shorten it",
    ),
    "TG128": Code(
        "not a name in gRPC",
        "no call carries it, so the rule would never match as meant",
        "write service: package.Service and method: Method",
    ),
    "TG129": Code(
        "not a rate",
        "a rate is a number of requests in a time, such as 100 in 1s",
        "write requests: 100 and per: 1s; burst, if more may come at once",
    ),
}  # fmt: skip
