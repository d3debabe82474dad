from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AgentMessage(_message.Message):
    __slots__ = ("hello", "ack", "evidence", "encryption", "preview")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTION_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    ack: Ack
    evidence: Evidence
    encryption: NodeEncryption
    preview: Evidence
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., evidence: _Optional[_Union[Evidence, _Mapping]] = ..., encryption: _Optional[_Union[NodeEncryption, _Mapping]] = ..., preview: _Optional[_Union[Evidence, _Mapping]] = ...) -> None: ...

class ReconcilerMessage(_message.Message):
    __slots__ = ("announcement", "confirmation")
    ANNOUNCEMENT_FIELD_NUMBER: _ClassVar[int]
    CONFIRMATION_FIELD_NUMBER: _ClassVar[int]
    announcement: Announcement
    confirmation: Confirmation
    def __init__(self, announcement: _Optional[_Union[Announcement, _Mapping]] = ..., confirmation: _Optional[_Union[Confirmation, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("instance", "agent_version", "capabilities", "sequence", "digest", "version", "held")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    instance: str
    agent_version: str
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    sequence: int
    digest: str
    version: int
    held: bytes
    def __init__(self, instance: _Optional[str] = ..., agent_version: _Optional[str] = ..., capabilities: _Optional[_Iterable[str]] = ..., sequence: _Optional[int] = ..., digest: _Optional[str] = ..., version: _Optional[int] = ..., held: _Optional[bytes] = ...) -> None: ...

class Announcement(_message.Message):
    __slots__ = ("nonce", "version", "sequence", "digest")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    version: int
    sequence: int
    digest: str
    def __init__(self, nonce: _Optional[int] = ..., version: _Optional[int] = ..., sequence: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("nonce", "version", "sequence", "digest", "generation_digest", "applied_at_us", "error", "reason", "role", "candidate_generation_digest", "answer", "refused_sequence")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    GENERATION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    APPLIED_AT_US_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_GENERATION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    REFUSED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    version: int
    sequence: int
    digest: str
    generation_digest: str
    applied_at_us: int
    error: str
    reason: str
    role: str
    candidate_generation_digest: str
    answer: int
    refused_sequence: int
    def __init__(self, nonce: _Optional[int] = ..., version: _Optional[int] = ..., sequence: _Optional[int] = ..., digest: _Optional[str] = ..., generation_digest: _Optional[str] = ..., applied_at_us: _Optional[int] = ..., error: _Optional[str] = ..., reason: _Optional[str] = ..., role: _Optional[str] = ..., candidate_generation_digest: _Optional[str] = ..., answer: _Optional[int] = ..., refused_sequence: _Optional[int] = ...) -> None: ...

class Confirmation(_message.Message):
    __slots__ = ("nonce", "answer")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    answer: int
    def __init__(self, nonce: _Optional[int] = ..., answer: _Optional[int] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("candidate_digest", "generation_digest", "role", "flows", "pods", "omitted", "error", "label_sets", "rules", "differences", "answers")
    CANDIDATE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    GENERATION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    PODS_FIELD_NUMBER: _ClassVar[int]
    OMITTED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    LABEL_SETS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    candidate_digest: str
    generation_digest: str
    role: str
    flows: int
    pods: int
    omitted: int
    error: str
    label_sets: _containers.RepeatedCompositeFieldContainer[LabelSet]
    rules: _containers.RepeatedCompositeFieldContainer[RuleName]
    differences: _containers.RepeatedCompositeFieldContainer[Difference]
    answers: AnswerCounts
    def __init__(self, candidate_digest: _Optional[str] = ..., generation_digest: _Optional[str] = ..., role: _Optional[str] = ..., flows: _Optional[int] = ..., pods: _Optional[int] = ..., omitted: _Optional[int] = ..., error: _Optional[str] = ..., label_sets: _Optional[_Iterable[_Union[LabelSet, _Mapping]]] = ..., rules: _Optional[_Iterable[_Union[RuleName, _Mapping]]] = ..., differences: _Optional[_Iterable[_Union[Difference, _Mapping]]] = ..., answers: _Optional[_Union[AnswerCounts, _Mapping]] = ...) -> None: ...

class AnswerCounts(_message.Message):
    __slots__ = ("requests", "refused", "failed")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    requests: int
    refused: int
    failed: int
    def __init__(self, requests: _Optional[int] = ..., refused: _Optional[int] = ..., failed: _Optional[int] = ...) -> None: ...

class RuleName(_message.Message):
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

class Difference(_message.Message):
    __slots__ = ("source", "destination", "protocol", "port", "direction", "cause", "rules", "count", "request")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    source: FlowSide
    destination: FlowSide
    protocol: int
    port: int
    direction: str
    cause: str
    rules: _containers.RepeatedScalarFieldContainer[int]
    count: int
    request: RequestForm
    def __init__(self, source: _Optional[_Union[FlowSide, _Mapping]] = ..., destination: _Optional[_Union[FlowSide, _Mapping]] = ..., protocol: _Optional[int] = ..., port: _Optional[int] = ..., direction: _Optional[str] = ..., cause: _Optional[str] = ..., rules: _Optional[_Iterable[int]] = ..., count: _Optional[int] = ..., request: _Optional[_Union[RequestForm, _Mapping]] = ...) -> None: ...

class RequestForm(_message.Message):
    __slots__ = ("method", "path")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    method: str
    path: str
    def __init__(self, method: _Optional[str] = ..., path: _Optional[str] = ...) -> None: ...

class FlowSide(_message.Message):
    __slots__ = ("namespace", "pod", "label_set")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    LABEL_SET_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    pod: str
    label_set: int
    def __init__(self, namespace: _Optional[str] = ..., pod: _Optional[str] = ..., label_set: _Optional[int] = ...) -> None: ...

class NodeEncryption(_message.Message):
    __slots__ = ("mode", "implementation", "keys", "peers", "silent_peers", "error", "unmet_peers")
    MODE_FIELD_NUMBER: _ClassVar[int]
    IMPLEMENTATION_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    SILENT_PEERS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    UNMET_PEERS_FIELD_NUMBER: _ClassVar[int]
    mode: str
    implementation: str
    keys: _containers.RepeatedCompositeFieldContainer[PublicKey]
    peers: int
    silent_peers: _containers.RepeatedScalarFieldContainer[str]
    error: str
    unmet_peers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, mode: _Optional[str] = ..., implementation: _Optional[str] = ..., keys: _Optional[_Iterable[_Union[PublicKey, _Mapping]]] = ..., peers: _Optional[int] = ..., silent_peers: _Optional[_Iterable[str]] = ..., error: _Optional[str] = ..., unmet_peers: _Optional[_Iterable[str]] = ...) -> None: ...

class PublicKey(_message.Message):
    __slots__ = ("key", "addresses", "port", "made_at_us", "slot")
    KEY_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    MADE_AT_US_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    addresses: _containers.RepeatedScalarFieldContainer[str]
    port: int
    made_at_us: int
    slot: int
    def __init__(self, key: _Optional[bytes] = ..., addresses: _Optional[_Iterable[str]] = ..., port: _Optional[int] = ..., made_at_us: _Optional[int] = ..., slot: _Optional[int] = ...) -> None: ...

class FetchMetadataRequest(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class FetchMetadataReply(_message.Message):
    __slots__ = ("files",)
    FILES_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, files: _Optional[_Iterable[bytes]] = ...) -> None: ...

class FetchUnitsRequest(_message.Message):
    __slots__ = ("digests",)
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    digests: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, digests: _Optional[_Iterable[str]] = ...) -> None: ...

class UnitChunk(_message.Message):
    __slots__ = ("digest", "data", "last")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    data: bytes
    last: bool
    def __init__(self, digest: _Optional[str] = ..., data: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class InventoryAck(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    def __init__(self, version: _Optional[int] = ...) -> None: ...

class InventoryUpdate(_message.Message):
    __slots__ = ("version", "reset", "complete", "label_sets", "upserts", "removals", "key_upserts", "key_removals", "keys_pending")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    LABEL_SETS_FIELD_NUMBER: _ClassVar[int]
    UPSERTS_FIELD_NUMBER: _ClassVar[int]
    REMOVALS_FIELD_NUMBER: _ClassVar[int]
    KEY_UPSERTS_FIELD_NUMBER: _ClassVar[int]
    KEY_REMOVALS_FIELD_NUMBER: _ClassVar[int]
    KEYS_PENDING_FIELD_NUMBER: _ClassVar[int]
    version: int
    reset: bool
    complete: bool
    label_sets: _containers.RepeatedCompositeFieldContainer[LabelSet]
    upserts: _containers.RepeatedCompositeFieldContainer[InventoryEntry]
    removals: _containers.RepeatedCompositeFieldContainer[InventoryKey]
    key_upserts: _containers.RepeatedCompositeFieldContainer[NodeKeys]
    key_removals: _containers.RepeatedScalarFieldContainer[str]
    keys_pending: bool
    def __init__(self, version: _Optional[int] = ..., reset: _Optional[bool] = ..., complete: _Optional[bool] = ..., label_sets: _Optional[_Iterable[_Union[LabelSet, _Mapping]]] = ..., upserts: _Optional[_Iterable[_Union[InventoryEntry, _Mapping]]] = ..., removals: _Optional[_Iterable[_Union[InventoryKey, _Mapping]]] = ..., key_upserts: _Optional[_Iterable[_Union[NodeKeys, _Mapping]]] = ..., key_removals: _Optional[_Iterable[str]] = ..., keys_pending: _Optional[bool] = ...) -> None: ...

class NodeKeys(_message.Message):
    __slots__ = ("node", "keys", "in_force")
    NODE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    IN_FORCE_FIELD_NUMBER: _ClassVar[int]
    node: str
    keys: _containers.RepeatedCompositeFieldContainer[PublicKey]
    in_force: bool
    def __init__(self, node: _Optional[str] = ..., keys: _Optional[_Iterable[_Union[PublicKey, _Mapping]]] = ..., in_force: _Optional[bool] = ...) -> None: ...

class LabelSet(_message.Message):
    __slots__ = ("labels",)
    LABELS_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedCompositeFieldContainer[Label]
    def __init__(self, labels: _Optional[_Iterable[_Union[Label, _Mapping]]] = ...) -> None: ...

class Label(_message.Message):
    __slots__ = ("source", "key", "value")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    source: str
    key: str
    value: str
    def __init__(self, source: _Optional[str] = ..., key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class InventoryKey(_message.Message):
    __slots__ = ("address", "namespace", "name")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    address: str
    namespace: str
    name: str
    def __init__(self, address: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class InventoryEntry(_message.Message):
    __slots__ = ("key", "node", "label_set")
    KEY_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    LABEL_SET_FIELD_NUMBER: _ClassVar[int]
    key: InventoryKey
    node: str
    label_set: int
    def __init__(self, key: _Optional[_Union[InventoryKey, _Mapping]] = ..., node: _Optional[str] = ..., label_set: _Optional[int] = ...) -> None: ...
