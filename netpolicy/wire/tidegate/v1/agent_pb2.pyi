from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("node", "agent_version", "started_at", "commit", "sequence", "bundle_digest", "generation_digest", "datapath_revision", "applied_at", "endpoints", "policy_entries", "addresses", "in_sync", "plan_error", "plan_error_reason", "connected", "receive_error", "metadata_expires", "alarms", "inventory_synced", "flows_seen", "flows_lost", "forwarded_packets", "drops", "awaited_interfaces", "kernel_generation_digest", "kernel_agrees", "strangers", "drift", "flow_table", "rollout", "requests", "proxy")
    NODE_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    GENERATION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DATAPATH_REVISION_FIELD_NUMBER: _ClassVar[int]
    APPLIED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    POLICY_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    IN_SYNC_FIELD_NUMBER: _ClassVar[int]
    PLAN_ERROR_FIELD_NUMBER: _ClassVar[int]
    PLAN_ERROR_REASON_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    RECEIVE_ERROR_FIELD_NUMBER: _ClassVar[int]
    METADATA_EXPIRES_FIELD_NUMBER: _ClassVar[int]
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    INVENTORY_SYNCED_FIELD_NUMBER: _ClassVar[int]
    FLOWS_SEEN_FIELD_NUMBER: _ClassVar[int]
    FLOWS_LOST_FIELD_NUMBER: _ClassVar[int]
    FORWARDED_PACKETS_FIELD_NUMBER: _ClassVar[int]
    DROPS_FIELD_NUMBER: _ClassVar[int]
    AWAITED_INTERFACES_FIELD_NUMBER: _ClassVar[int]
    KERNEL_GENERATION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    KERNEL_AGREES_FIELD_NUMBER: _ClassVar[int]
    STRANGERS_FIELD_NUMBER: _ClassVar[int]
    DRIFT_FIELD_NUMBER: _ClassVar[int]
    FLOW_TABLE_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PROXY_FIELD_NUMBER: _ClassVar[int]
    node: str
    agent_version: str
    started_at: float
    commit: str
    sequence: int
    bundle_digest: str
    generation_digest: str
    datapath_revision: int
    applied_at: float
    endpoints: int
    policy_entries: int
    addresses: int
    in_sync: bool
    plan_error: str
    plan_error_reason: str
    connected: bool
    receive_error: str
    metadata_expires: str
    alarms: _containers.RepeatedScalarFieldContainer[str]
    inventory_synced: bool
    flows_seen: int
    flows_lost: int
    forwarded_packets: int
    drops: _containers.RepeatedCompositeFieldContainer[DropCount]
    awaited_interfaces: _containers.RepeatedScalarFieldContainer[str]
    kernel_generation_digest: str
    kernel_agrees: bool
    strangers: _containers.RepeatedScalarFieldContainer[str]
    drift: DriftStatus
    flow_table: FlowTable
    rollout: RolloutStatus
    requests: RequestStatus
    proxy: ProxyState
    def __init__(self, node: _Optional[str] = ..., agent_version: _Optional[str] = ..., started_at: _Optional[float] = ..., commit: _Optional[str] = ..., sequence: _Optional[int] = ..., bundle_digest: _Optional[str] = ..., generation_digest: _Optional[str] = ..., datapath_revision: _Optional[int] = ..., applied_at: _Optional[float] = ..., endpoints: _Optional[int] = ..., policy_entries: _Optional[int] = ..., addresses: _Optional[int] = ..., in_sync: _Optional[bool] = ..., plan_error: _Optional[str] = ..., plan_error_reason: _Optional[str] = ..., connected: _Optional[bool] = ..., receive_error: _Optional[str] = ..., metadata_expires: _Optional[str] = ..., alarms: _Optional[_Iterable[str]] = ..., inventory_synced: _Optional[bool] = ..., flows_seen: _Optional[int] = ..., flows_lost: _Optional[int] = ..., forwarded_packets: _Optional[int] = ..., drops: _Optional[_Iterable[_Union[DropCount, _Mapping]]] = ..., awaited_interfaces: _Optional[_Iterable[str]] = ..., kernel_generation_digest: _Optional[str] = ..., kernel_agrees: _Optional[bool] = ..., strangers: _Optional[_Iterable[str]] = ..., drift: _Optional[_Union[DriftStatus, _Mapping]] = ..., flow_table: _Optional[_Union[FlowTable, _Mapping]] = ..., rollout: _Optional[_Union[RolloutStatus, _Mapping]] = ..., requests: _Optional[_Union[RequestStatus, _Mapping]] = ..., proxy: _Optional[_Union[ProxyState, _Mapping]] = ...) -> None: ...

class ProxyState(_message.Message):
    __slots__ = ("state", "pid", "restarts", "listeners", "connections", "lacking")
    STATE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    LISTENERS_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    LACKING_FIELD_NUMBER: _ClassVar[int]
    state: str
    pid: int
    restarts: int
    listeners: _containers.RepeatedScalarFieldContainer[str]
    connections: int
    lacking: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, state: _Optional[str] = ..., pid: _Optional[int] = ..., restarts: _Optional[int] = ..., listeners: _Optional[_Iterable[str]] = ..., connections: _Optional[int] = ..., lacking: _Optional[_Iterable[str]] = ...) -> None: ...

class RequestStatus(_message.Message):
    __slots__ = ("counts", "latencies", "lost")
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    LATENCIES_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.RepeatedCompositeFieldContainer[RequestCount]
    latencies: _containers.RepeatedCompositeFieldContainer[RequestLatency]
    lost: int
    def __init__(self, counts: _Optional[_Iterable[_Union[RequestCount, _Mapping]]] = ..., latencies: _Optional[_Iterable[_Union[RequestLatency, _Mapping]]] = ..., lost: _Optional[int] = ...) -> None: ...

class RequestCount(_message.Message):
    __slots__ = ("direction", "verdict", "status", "protocol", "requests", "reason")
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    direction: str
    verdict: str
    status: str
    protocol: str
    requests: int
    reason: str
    def __init__(self, direction: _Optional[str] = ..., verdict: _Optional[str] = ..., status: _Optional[str] = ..., protocol: _Optional[str] = ..., requests: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class RequestLatency(_message.Message):
    __slots__ = ("direction", "bounds", "buckets", "seconds")
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    BOUNDS_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    direction: str
    bounds: _containers.RepeatedScalarFieldContainer[float]
    buckets: _containers.RepeatedScalarFieldContainer[int]
    seconds: float
    def __init__(self, direction: _Optional[str] = ..., bounds: _Optional[_Iterable[float]] = ..., buckets: _Optional[_Iterable[int]] = ..., seconds: _Optional[float] = ...) -> None: ...

class FlowTable(_message.Message):
    __slots__ = ("flows", "expired", "orphaned", "swept_at", "error")
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    ORPHANED_FIELD_NUMBER: _ClassVar[int]
    SWEPT_AT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    flows: int
    expired: int
    orphaned: int
    swept_at: float
    error: str
    def __init__(self, flows: _Optional[int] = ..., expired: _Optional[int] = ..., orphaned: _Optional[int] = ..., swept_at: _Optional[float] = ..., error: _Optional[str] = ...) -> None: ...

class RolloutStatus(_message.Message):
    __slots__ = ("role", "candidate_commit", "candidate_digest", "candidate_generation_digest", "error", "flows", "pods", "differences", "differing_flows", "confirm", "confirm_sequence", "confirm_seconds_left")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_COMMIT_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_GENERATION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    PODS_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    DIFFERING_FLOWS_FIELD_NUMBER: _ClassVar[int]
    CONFIRM_FIELD_NUMBER: _ClassVar[int]
    CONFIRM_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CONFIRM_SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    role: str
    candidate_commit: str
    candidate_digest: str
    candidate_generation_digest: str
    error: str
    flows: int
    pods: int
    differences: int
    differing_flows: int
    confirm: str
    confirm_sequence: int
    confirm_seconds_left: float
    def __init__(self, role: _Optional[str] = ..., candidate_commit: _Optional[str] = ..., candidate_digest: _Optional[str] = ..., candidate_generation_digest: _Optional[str] = ..., error: _Optional[str] = ..., flows: _Optional[int] = ..., pods: _Optional[int] = ..., differences: _Optional[int] = ..., differing_flows: _Optional[int] = ..., confirm: _Optional[str] = ..., confirm_sequence: _Optional[int] = ..., confirm_seconds_left: _Optional[float] = ...) -> None: ...

class DriftStatus(_message.Message):
    __slots__ = ("checked_at", "check_seconds", "checks", "found_at", "repaired_at", "counts", "standing")
    CHECKED_AT_FIELD_NUMBER: _ClassVar[int]
    CHECK_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    FOUND_AT_FIELD_NUMBER: _ClassVar[int]
    REPAIRED_AT_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    checked_at: float
    check_seconds: float
    checks: int
    found_at: float
    repaired_at: float
    counts: _containers.RepeatedCompositeFieldContainer[DriftCount]
    standing: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, checked_at: _Optional[float] = ..., check_seconds: _Optional[float] = ..., checks: _Optional[int] = ..., found_at: _Optional[float] = ..., repaired_at: _Optional[float] = ..., counts: _Optional[_Iterable[_Union[DriftCount, _Mapping]]] = ..., standing: _Optional[_Iterable[str]] = ...) -> None: ...

class DriftCount(_message.Message):
    __slots__ = ("kind", "found", "repaired")
    KIND_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    REPAIRED_FIELD_NUMBER: _ClassVar[int]
    kind: str
    found: int
    repaired: int
    def __init__(self, kind: _Optional[str] = ..., found: _Optional[int] = ..., repaired: _Optional[int] = ...) -> None: ...

class DropCount(_message.Message):
    __slots__ = ("reason", "direction", "packets")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    PACKETS_FIELD_NUMBER: _ClassVar[int]
    reason: int
    direction: str
    packets: int
    def __init__(self, reason: _Optional[int] = ..., direction: _Optional[str] = ..., packets: _Optional[int] = ...) -> None: ...

class EndpointsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Endpoint(_message.Message):
    __slots__ = ("id", "namespace", "pod", "identity", "labels", "addresses", "interface", "attached", "ingress_default_deny", "egress_default_deny", "table", "policies", "mac")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    INTERFACE_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    INGRESS_DEFAULT_DENY_FIELD_NUMBER: _ClassVar[int]
    EGRESS_DEFAULT_DENY_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    MAC_FIELD_NUMBER: _ClassVar[int]
    id: int
    namespace: str
    pod: str
    identity: int
    labels: _containers.RepeatedScalarFieldContainer[str]
    addresses: _containers.RepeatedScalarFieldContainer[str]
    interface: str
    attached: bool
    ingress_default_deny: bool
    egress_default_deny: bool
    table: int
    policies: _containers.RepeatedScalarFieldContainer[str]
    mac: str
    def __init__(self, id: _Optional[int] = ..., namespace: _Optional[str] = ..., pod: _Optional[str] = ..., identity: _Optional[int] = ..., labels: _Optional[_Iterable[str]] = ..., addresses: _Optional[_Iterable[str]] = ..., interface: _Optional[str] = ..., attached: _Optional[bool] = ..., ingress_default_deny: _Optional[bool] = ..., egress_default_deny: _Optional[bool] = ..., table: _Optional[int] = ..., policies: _Optional[_Iterable[str]] = ..., mac: _Optional[str] = ...) -> None: ...

class EndpointsResponse(_message.Message):
    __slots__ = ("endpoints",)
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    endpoints: _containers.RepeatedCompositeFieldContainer[Endpoint]
    def __init__(self, endpoints: _Optional[_Iterable[_Union[Endpoint, _Mapping]]] = ...) -> None: ...

class PolicyRequest(_message.Message):
    __slots__ = ("endpoint",)
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    endpoint: str
    def __init__(self, endpoint: _Optional[str] = ...) -> None: ...

class RuleRef(_message.Message):
    __slots__ = ("kind", "namespace", "name", "origin")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    kind: str
    namespace: str
    name: str
    origin: str
    def __init__(self, kind: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., origin: _Optional[str] = ...) -> None: ...

class PolicyRow(_message.Message):
    __slots__ = ("direction", "verdict", "peers", "peer_count", "ports", "outcome", "rules")
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    PEER_COUNT_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    direction: str
    verdict: str
    peers: _containers.RepeatedScalarFieldContainer[str]
    peer_count: int
    ports: str
    outcome: str
    rules: _containers.RepeatedCompositeFieldContainer[RuleRef]
    def __init__(self, direction: _Optional[str] = ..., verdict: _Optional[str] = ..., peers: _Optional[_Iterable[str]] = ..., peer_count: _Optional[int] = ..., ports: _Optional[str] = ..., outcome: _Optional[str] = ..., rules: _Optional[_Iterable[_Union[RuleRef, _Mapping]]] = ...) -> None: ...

class PolicyResponse(_message.Message):
    __slots__ = ("endpoint", "rows", "ingress_isolated_by", "egress_isolated_by")
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    INGRESS_ISOLATED_BY_FIELD_NUMBER: _ClassVar[int]
    EGRESS_ISOLATED_BY_FIELD_NUMBER: _ClassVar[int]
    endpoint: Endpoint
    rows: _containers.RepeatedCompositeFieldContainer[PolicyRow]
    ingress_isolated_by: _containers.RepeatedCompositeFieldContainer[RuleRef]
    egress_isolated_by: _containers.RepeatedCompositeFieldContainer[RuleRef]
    def __init__(self, endpoint: _Optional[_Union[Endpoint, _Mapping]] = ..., rows: _Optional[_Iterable[_Union[PolicyRow, _Mapping]]] = ..., ingress_isolated_by: _Optional[_Iterable[_Union[RuleRef, _Mapping]]] = ..., egress_isolated_by: _Optional[_Iterable[_Union[RuleRef, _Mapping]]] = ...) -> None: ...

class IdentitiesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Identity(_message.Message):
    __slots__ = ("number", "labels", "peer_class", "addresses")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PEER_CLASS_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    number: int
    labels: _containers.RepeatedScalarFieldContainer[str]
    peer_class: int
    addresses: int
    def __init__(self, number: _Optional[int] = ..., labels: _Optional[_Iterable[str]] = ..., peer_class: _Optional[int] = ..., addresses: _Optional[int] = ...) -> None: ...

class IdentitiesResponse(_message.Message):
    __slots__ = ("identities",)
    IDENTITIES_FIELD_NUMBER: _ClassVar[int]
    identities: _containers.RepeatedCompositeFieldContainer[Identity]
    def __init__(self, identities: _Optional[_Iterable[_Union[Identity, _Mapping]]] = ...) -> None: ...

class AttributionsRequest(_message.Message):
    __slots__ = ("generation_digest",)
    GENERATION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    generation_digest: str
    def __init__(self, generation_digest: _Optional[str] = ...) -> None: ...

class Attribution(_message.Message):
    __slots__ = ("cookie", "outcome", "rules")
    COOKIE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    cookie: int
    outcome: str
    rules: _containers.RepeatedCompositeFieldContainer[RuleRef]
    def __init__(self, cookie: _Optional[int] = ..., outcome: _Optional[str] = ..., rules: _Optional[_Iterable[_Union[RuleRef, _Mapping]]] = ...) -> None: ...

class AttributionsResponse(_message.Message):
    __slots__ = ("is_known", "attributions")
    IS_KNOWN_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    is_known: bool
    attributions: _containers.RepeatedCompositeFieldContainer[Attribution]
    def __init__(self, is_known: _Optional[bool] = ..., attributions: _Optional[_Iterable[_Union[Attribution, _Mapping]]] = ...) -> None: ...

class FlowsRequest(_message.Message):
    __slots__ = ("last", "follow", "verdicts", "pods", "ports", "directions")
    LAST_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    PODS_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    DIRECTIONS_FIELD_NUMBER: _ClassVar[int]
    last: int
    follow: bool
    verdicts: _containers.RepeatedScalarFieldContainer[str]
    pods: _containers.RepeatedScalarFieldContainer[str]
    ports: _containers.RepeatedScalarFieldContainer[int]
    directions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, last: _Optional[int] = ..., follow: _Optional[bool] = ..., verdicts: _Optional[_Iterable[str]] = ..., pods: _Optional[_Iterable[str]] = ..., ports: _Optional[_Iterable[int]] = ..., directions: _Optional[_Iterable[str]] = ...) -> None: ...

class FlowEnd(_message.Message):
    __slots__ = ("identity", "address", "labels", "namespace", "pod")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    identity: int
    address: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    namespace: str
    pod: str
    def __init__(self, identity: _Optional[int] = ..., address: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ..., namespace: _Optional[str] = ..., pod: _Optional[str] = ...) -> None: ...

class FlowCause(_message.Message):
    __slots__ = ("revision", "commit", "outcome", "policies")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    revision: int
    commit: str
    outcome: str
    policies: _containers.RepeatedCompositeFieldContainer[RuleRef]
    def __init__(self, revision: _Optional[int] = ..., commit: _Optional[str] = ..., outcome: _Optional[str] = ..., policies: _Optional[_Iterable[_Union[RuleRef, _Mapping]]] = ...) -> None: ...

class FlowBatch(_message.Message):
    __slots__ = ("node", "ends", "causes", "time_ns", "source", "destination", "because", "endpoint_id", "source_port", "destination_port", "drop_reason", "direction", "protocol", "tcp_flags", "icmp_type", "icmp_code", "is_reply", "shadow", "cause", "occasion", "packets", "bytes", "reply_packets", "reply_bytes", "http", "exchanges", "encrypted", "redirected")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    CAUSES_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    BECAUSE_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_PORT_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_PORT_FIELD_NUMBER: _ClassVar[int]
    DROP_REASON_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    TCP_FLAGS_FIELD_NUMBER: _ClassVar[int]
    ICMP_TYPE_FIELD_NUMBER: _ClassVar[int]
    ICMP_CODE_FIELD_NUMBER: _ClassVar[int]
    IS_REPLY_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    OCCASION_FIELD_NUMBER: _ClassVar[int]
    PACKETS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    REPLY_PACKETS_FIELD_NUMBER: _ClassVar[int]
    REPLY_BYTES_FIELD_NUMBER: _ClassVar[int]
    HTTP_FIELD_NUMBER: _ClassVar[int]
    EXCHANGES_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTED_FIELD_NUMBER: _ClassVar[int]
    REDIRECTED_FIELD_NUMBER: _ClassVar[int]
    node: str
    ends: _containers.RepeatedCompositeFieldContainer[FlowEnd]
    causes: _containers.RepeatedCompositeFieldContainer[FlowCause]
    time_ns: _containers.RepeatedScalarFieldContainer[int]
    source: _containers.RepeatedScalarFieldContainer[int]
    destination: _containers.RepeatedScalarFieldContainer[int]
    because: _containers.RepeatedScalarFieldContainer[int]
    endpoint_id: _containers.RepeatedScalarFieldContainer[int]
    source_port: _containers.RepeatedScalarFieldContainer[int]
    destination_port: _containers.RepeatedScalarFieldContainer[int]
    drop_reason: bytes
    direction: bytes
    protocol: bytes
    tcp_flags: bytes
    icmp_type: bytes
    icmp_code: bytes
    is_reply: bytes
    shadow: bytes
    cause: bytes
    occasion: bytes
    packets: _containers.RepeatedScalarFieldContainer[int]
    bytes: _containers.RepeatedScalarFieldContainer[int]
    reply_packets: _containers.RepeatedScalarFieldContainer[int]
    reply_bytes: _containers.RepeatedScalarFieldContainer[int]
    http: _containers.RepeatedScalarFieldContainer[int]
    exchanges: _containers.RepeatedCompositeFieldContainer[HttpExchange]
    encrypted: bytes
    redirected: bytes
    def __init__(self, node: _Optional[str] = ..., ends: _Optional[_Iterable[_Union[FlowEnd, _Mapping]]] = ..., causes: _Optional[_Iterable[_Union[FlowCause, _Mapping]]] = ..., time_ns: _Optional[_Iterable[int]] = ..., source: _Optional[_Iterable[int]] = ..., destination: _Optional[_Iterable[int]] = ..., because: _Optional[_Iterable[int]] = ..., endpoint_id: _Optional[_Iterable[int]] = ..., source_port: _Optional[_Iterable[int]] = ..., destination_port: _Optional[_Iterable[int]] = ..., drop_reason: _Optional[bytes] = ..., direction: _Optional[bytes] = ..., protocol: _Optional[bytes] = ..., tcp_flags: _Optional[bytes] = ..., icmp_type: _Optional[bytes] = ..., icmp_code: _Optional[bytes] = ..., is_reply: _Optional[bytes] = ..., shadow: _Optional[bytes] = ..., cause: _Optional[bytes] = ..., occasion: _Optional[bytes] = ..., packets: _Optional[_Iterable[int]] = ..., bytes: _Optional[_Iterable[int]] = ..., reply_packets: _Optional[_Iterable[int]] = ..., reply_bytes: _Optional[_Iterable[int]] = ..., http: _Optional[_Iterable[int]] = ..., exchanges: _Optional[_Iterable[_Union[HttpExchange, _Mapping]]] = ..., encrypted: _Optional[bytes] = ..., redirected: _Optional[bytes] = ...) -> None: ...

class HttpExchange(_message.Message):
    __slots__ = ("method", "path", "host", "protocol", "code", "grpc_status", "latency_ns")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    GRPC_STATUS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_NS_FIELD_NUMBER: _ClassVar[int]
    method: str
    path: str
    host: str
    protocol: str
    code: int
    grpc_status: int
    latency_ns: int
    def __init__(self, method: _Optional[str] = ..., path: _Optional[str] = ..., host: _Optional[str] = ..., protocol: _Optional[str] = ..., code: _Optional[int] = ..., grpc_status: _Optional[int] = ..., latency_ns: _Optional[int] = ...) -> None: ...

class LostFlows(_message.Message):
    __slots__ = ("count", "place")
    class Place(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN: _ClassVar[LostFlows.Place]
        KERNEL: _ClassVar[LostFlows.Place]
        READER: _ClassVar[LostFlows.Place]
        PROXY: _ClassVar[LostFlows.Place]
    UNKNOWN: LostFlows.Place
    KERNEL: LostFlows.Place
    READER: LostFlows.Place
    PROXY: LostFlows.Place
    COUNT_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    count: int
    place: LostFlows.Place
    def __init__(self, count: _Optional[int] = ..., place: _Optional[_Union[LostFlows.Place, str]] = ...) -> None: ...

class FlowsResponse(_message.Message):
    __slots__ = ("flows", "lost")
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    flows: FlowBatch
    lost: LostFlows
    def __init__(self, flows: _Optional[_Union[FlowBatch, _Mapping]] = ..., lost: _Optional[_Union[LostFlows, _Mapping]] = ...) -> None: ...

class EncryptionRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EncryptionResponse(_message.Message):
    __slots__ = ("mode", "implementation", "port", "keys", "tunnels", "silent_nodes", "alarms")
    MODE_FIELD_NUMBER: _ClassVar[int]
    IMPLEMENTATION_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    TUNNELS_FIELD_NUMBER: _ClassVar[int]
    SILENT_NODES_FIELD_NUMBER: _ClassVar[int]
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    mode: str
    implementation: str
    port: int
    keys: _containers.RepeatedCompositeFieldContainer[OwnKey]
    tunnels: _containers.RepeatedCompositeFieldContainer[Tunnel]
    silent_nodes: _containers.RepeatedScalarFieldContainer[str]
    alarms: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, mode: _Optional[str] = ..., implementation: _Optional[str] = ..., port: _Optional[int] = ..., keys: _Optional[_Iterable[_Union[OwnKey, _Mapping]]] = ..., tunnels: _Optional[_Iterable[_Union[Tunnel, _Mapping]]] = ..., silent_nodes: _Optional[_Iterable[str]] = ..., alarms: _Optional[_Iterable[str]] = ...) -> None: ...

class OwnKey(_message.Message):
    __slots__ = ("public_key", "made_at")
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    MADE_AT_FIELD_NUMBER: _ClassVar[int]
    public_key: str
    made_at: float
    def __init__(self, public_key: _Optional[str] = ..., made_at: _Optional[float] = ...) -> None: ...

class Tunnel(_message.Message):
    __slots__ = ("node", "device", "public_key", "endpoint", "addresses", "handshake_at", "received_bytes", "sent_bytes", "is_sending")
    NODE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    HANDSHAKE_AT_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    IS_SENDING_FIELD_NUMBER: _ClassVar[int]
    node: str
    device: str
    public_key: str
    endpoint: str
    addresses: int
    handshake_at: float
    received_bytes: int
    sent_bytes: int
    is_sending: bool
    def __init__(self, node: _Optional[str] = ..., device: _Optional[str] = ..., public_key: _Optional[str] = ..., endpoint: _Optional[str] = ..., addresses: _Optional[int] = ..., handshake_at: _Optional[float] = ..., received_bytes: _Optional[int] = ..., sent_bytes: _Optional[int] = ..., is_sending: _Optional[bool] = ...) -> None: ...

class RotateKeyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RotateKeyResponse(_message.Message):
    __slots__ = ("public_key",)
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    public_key: str
    def __init__(self, public_key: _Optional[str] = ...) -> None: ...
