"""The diagnostics of policies: what each code means, once, for the programs and their manual.

In:   a code
Out:  its title, and the why and fix that hold wherever it is found
Pure data. Codes are permanent: a retired one is never given to another fault.

TG050–TG063 (YAML) are in `netpolicy.yaml_faults`. TG1xx: fields. TG2xx: meaning. TG3xx: warnings.
TG4xx: the revision as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from netpolicy.document import Document, NodePath
from netpolicy.errors import Diagnostic, Severity


@dataclass(frozen=True, slots=True)
class Code:
    """What holds for every diagnostic of one code; a diagnostic may say it more exactly."""

    title: str
    why: str
    fix: str

    @staticmethod
    def severity(code: str) -> Severity:
        """TG3xx are warnings; all others refuse the revision."""
        return Severity.WARNING if code.startswith("TG3") else Severity.ERROR


CODES: Final[dict[str, Code]] = {
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
    "TG200": Code(
        "policy given twice",
        "one would replace the other, depending on the order of files",
        "rename one, or join them",
    ),
    "TG202": Code(
        "namespace the folder may not name",
        "tidegate.yaml says which namespaces each folder owns",
        "move the policy to the folder of its namespace, or have the ownership changed",
    ),
    "TG203": Code(
        "cluster-wide policy with a namespace",
        "it selects pods of every namespace, whatever it says here",
        "remove metadata.namespace, or make it a CiliumNetworkPolicy",
    ),
    "TG204": Code(
        "two kinds of peer in one rule",
        "peers of one rule are of one kind: the language does not say whether both or either are meant",
        "write one rule for each",
    ),
    "TG205": Code(
        "exception outside its block",
        "an exception takes addresses out of its own block; this one takes others, or none",
        "write a block that lies wholly inside",
    ),
    "TG206": Code(
        "range that ends before it begins",
        "stock Cilium would match the first port alone",
        "exchange the two numbers",
    ),
    "TG207": Code(
        "range from port 0",
        "port 0 means every port, which has no end",
        "remove endPort, or begin at port 1",
    ),
    "TG208": Code(
        "ICMP and ports in one rule",
        "ICMP has no ports, so a rule with both could match nothing",
        "write one rule for icmps and one for toPorts",
    ),
    "TG209": Code(
        "policy that says nothing",
        "without a section it neither isolates nor allows: the pods stay as open as before",
        "add ingress or egress; [{}] refuses everything in that direction",
    ),
    "TG210": Code(
        "peer that is no peer",
        "a peer is an ipBlock, or a podSelector, a namespaceSelector or both",
        "write one of them; {} selects all",
    ),
    "TG211": Code(
        "endPort without a port",
        "a range needs its first port",
        "add port",
    ),
    "TG212": Code(
        "rules on a port that cannot carry them",
        "HTTP and Kafka are spoken over TCP, DNS over UDP and TCP, each on ports that a proxy must know",
        "name the protocol and the port",
    ),
    "TG213": Code(
        "field without meaning in a deny rule",
        "Cilium drops it there; what is left would deny other traffic than you mean",
        "deny by peers and ports, or allow only what may pass",
    ),
    "TG214": Code(
        "no names beside ports",
        "stock Cilium would allow everyone on these ports",
        "name whom you mean, or remove the line to allow everyone",
    ),
    "TG215": Code(
        "nodes selected in a namespace",
        "nodes are in no namespace",
        "write a CiliumClusterwideNetworkPolicy",
    ),
    "TG216": Code(
        "content of traffic to nodes",
        "of a node's own traffic only DNS questions can be looked into",
        "select the nodes by peers and ports alone",
    ),
    "TG217": Code(
        "server names and requests without a certificate",
        "to see requests inside TLS the proxy must end the connection",
        "add terminatingTLS, or remove the rules or the names",
    ),
    "TG218": Code(
        "unknown group of blocks",
        "a rule that refers to no group would match no one, and a deny would deny nothing",
        "add the CiliumCIDRGroup under policies/, or correct the reference",
    ),
    "TG219": Code(
        "range from a named port",
        "the number behind the name may be another in each pod",
        "write the number, or remove endPort",
    ),
    "TG220": Code(
        "two protocols on one port",
        "one proxy would have to read requests of two protocols on the same port of the same pods",
        "give the protocols different ports",
    ),
    "TG221": Code(
        "two ways to treat the same connections",
        "the proxy passes TLS on or ends it, in one way, and begins TLS towards a server or does not",
        "give the rules different ports, or (where TLS is ended) different serverNames",
    ),
    "TG300": Code(
        "empty list read as deny-all",
        "Tidegate refuses everything in that direction, as the text suggests;"
        " stock Cilium rejects such a policy and leaves the pods open",
        "write [{}], which means the same everywhere",
    ),
    "TG301": Code(
        "empty list without effect",
        "beside another section with rules, an empty list does not isolate the pods in this direction",
        "write [{}] to refuse everything in this direction, or remove the line",
    ),
    "TG302": Code(
        "[{}] refuses everything here",
        "in a CiliumNetworkPolicy an empty rule matches nothing; in a Kubernetes NetworkPolicy the same"
        " text allows everything",
        "if you mean deny-all, keep it; to allow everyone, write fromEntities or toEntities: [all]",
    ),
    "TG303": Code(
        "[{}] allows everything here",
        "in a Kubernetes NetworkPolicy an empty rule matches everyone; in a CiliumNetworkPolicy the same"
        " text refuses everything",
        "if you mean allow-all, keep it; to refuse everything, write [] with the direction in policyTypes",
    ),
    "TG304": Code(
        "default deny without rules",
        "Tidegate refuses everything in that direction, as the text says; stock Cilium does nothing",
        "write [{}] in that direction, which means the same everywhere",
    ),
    "TG305": Code(
        "rule that matches nothing",
        "an empty list of peers or ports selects none; the direction is isolated all the same",
        "remove the field to mean any, or list whom you mean",
    ),
    "TG306": Code(
        "block with host bits",
        "bits after the prefix length count for nothing",
        "write the block as shown",
    ),
    "TG307": Code(
        "subject in another namespace",
        "a namespaced policy selects pods of its own namespace only",
        "remove the label, or put the policy into that namespace",
    ),
    "TG308": Code(
        "selector that matches no pod",
        "no pod of the cluster carries these labels now; a misspelt label looks the same",
        "check the labels; if the pods are still to come, nothing need be done",
    ),
    "TG309": Code(
        "section that policyTypes leaves out",
        "rules count only in the directions that policyTypes lists",
        "add the direction to policyTypes, or remove the section",
    ),
    "TG310": Code(
        "empty toPorts",
        "beside peers an empty list means every port and protocol",
        "remove toPorts to say so plainly",
    ),
    "TG311": Code(
        "port in another base",
        "Kubernetes and Cilium read 0x… as hexadecimal and a leading zero as octal",
        "write it in decimal",
    ),
    "TG312": Code(
        "label source that no pod has",
        "pods carry labels of the sources k8s and reserved only, so this matches none",
        "write k8s: or no source",
    ),
    "TG313": Code(
        "empty specs",
        "a list without entries isolates and allows nothing",
        "remove the document, or write its policies",
    ),
    "TG314": Code(
        "policy without a namespace",
        "like any object without one, it belongs to the namespace called default",
        "add metadata.namespace, so that a reader need not guess",
    ),
    "TG320": Code(
        "policy that a deny takes back whole",
        "deny beats allow: a deny rule that stands wherever this policy does refuses all that it allows",
        "narrow the deny rule, or remove this policy",
    ),
    "TG321": Code(
        "rule that a deny takes back whole",
        "deny beats allow: a deny rule for the same pods refuses all that this rule allows",
        "narrow the deny rule, or remove this one",
    ),
    "TG322": Code(
        "requirements that exclude each other",
        "all requirements of a selector must hold at once, and no pod can meet these",
        "to mean one or the other, write In with both values, or two selectors",
    ),
    "TG323": Code(
        "block that its exceptions use up",
        "what is excepted is not matched, and here nothing else is left",
        "remove the exceptions that were not meant, or the whole block",
    ),
    "TG324": Code(
        "allow that the other side refuses",
        "a flow passes only if the egress of one pod and the ingress of the other let it pass",
        "allow it on the other side too, or remove this rule",
    ),
    "TG325": Code(
        "isolated pods without DNS",
        "egress is refused unless a rule allows it, and no rule of any policy lets these pods ask for names",
        "allow egress to the DNS servers on port 53, UDP and TCP, for instance in a cluster-wide policy",
    ),
    "TG326": Code(
        "toFQDNs without DNS",
        "addresses behind a name are learnt from the DNS answers that the pod is allowed to get",
        "allow egress to the DNS servers on port 53, UDP and TCP",
    ),
    "TG327": Code(
        "policy that cuts off DNS",
        "almost every connection begins with a name, so this stops far more than the policy names",
        "allow UDP and TCP port 53 to and from the DNS servers",
    ),
    "TG328": Code(
        "policy that cuts off the API server",
        "what cannot reach it neither starts nor learns of changes",
        "allow egress to the entity kube-apiserver",
    ),
    "TG329": Code(
        "policy that cuts off the reconciler",
        "it could fetch or hand out no further policy, not even the one that would mend this",
        "allow the reconciler the API server and its Git server, and agents on every node the reconciler",
    ),
    "TG330": Code(
        "block that allows everyone outside",
        "it means every address outside the cluster; it never means pods or nodes",
        "name the addresses, names or ports that are needed; for pods write a selector",
    ),
    "TG331": Code(
        "block that holds pods or nodes",
        "a block means addresses outside the cluster only: pods and nodes are matched by who they are",
        "for pods write a selector, for nodes the entities host and remote-node; else keep the block",
    ),
    "TG332": Code(
        "port name that no pod declares",
        "a named port is looked up in each pod; where no pod has the name, the rule matches nothing",
        "write a name that the pods declare, or the number",
    ),
    "TG333": Code(
        "two kinds of requests on one port",
        "where a pod is selected by both policies, one proxy would have to read two protocols on one port",
        "give the protocols different ports, or make sure that no pod is selected by both",
    ),
    "TG334": Code(
        "two ways to treat the connections of one pod",
        "where a pod is selected by both policies, its node can treat such connections in one way only: it"
        " refuses the revision, and goes on by the one before",
        "give the rules different ports or (where TLS is ended) different serverNames, or make sure that no"
        " pod is selected by both",
    ),
    "TG340": Code(
        "older spelling",
        "Tidegate reads it; stock Cilium refuses it or drops it in silence",
        "write it as shown",
    ),
    "TG341": Code(
        "gRPC service without a package",
        "a call names the package too, unless the service has none",
        "write package.Service",
    ),
    "TG342": Code(
        "wildcard in a regular expression",
        "'*' repeats the character before it; it does not stand for any text",
        "write .* to mean any text",
    ),
    "TG343": Code(
        "requests without a protocol",
        "Tidegate takes TCP, the only protocol that carries them; stock Cilium refuses the policy",
        "write protocol: TCP",
    ),
    "TG344": Code(
        "rule that no agent of this version enforces",
        "while any node lacks the capability the reconciler refuses the whole revision (TG402)",
        "leave the rule out until agents have the capability",
    ),
    "TG345": Code(
        "form that no request has",
        "the rule lets nothing pass: paths begin with a slash, hosts have none, and methods are in capitals",
        "write it as clients send it",
    ),
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


def fault(
    document: Document,
    path: NodePath,
    code: str,
    message: str,
    *,
    why: str = "",
    fix: str = "",
    on_key: bool = False,
) -> Diagnostic:
    """A diagnostic at a node, with the code's own why and fix unless better ones are given."""
    known = CODES[code]
    return document.diagnose(
        path,
        code,
        message,
        why=why or known.why,
        fix=fix or known.fix,
        on_key=on_key,
        severity=Code.severity(code),
    )
