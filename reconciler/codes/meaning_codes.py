"""TG2xx: what can be well-formed and still mean nothing, or nothing that can be enforced.

Pure data. Codes are permanent: a retired one is never given to another fault.
"""

from __future__ import annotations

from typing import Final

from reconciler.codes.code import Code

MEANING_CODES: Final[dict[str, Code]] = {
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
}  # fmt: skip
