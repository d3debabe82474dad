"""TG3xx: what is probably not meant so, and refuses nothing.

Pure data. Codes are permanent: a retired one is never given to another fault.
"""

from __future__ import annotations

from typing import Final

from reconciler.codes.code import Code

WARNING_CODES: Final[dict[str, Code]] = {
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
}  # fmt: skip
