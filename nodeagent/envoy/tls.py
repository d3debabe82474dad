"""TLS of the proxy: certificates it shows, authorities it trusts, upstreams it speaks TLS to.

In:   TlsContext; what its secret holds
Out:  secrets of Envoy's API, transport sockets, clusters
Pure.

Holds always:
1. An upstream is believed only if the secret's authorities vouch for the name that was asked for.
2. A private key is in a secret's file only: never in a listener, a cluster or a log.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Final, TypeAlias

from netpolicy.rules import SecretRef, TlsContext
from nodeagent.envoy.document import Json, discovery, extension, typed, watched
from nodeagent.envoy.settings import EnvoySettings, secret_file
from nodeagent.envoy.upstream import HTTP1_OPTIONS, http_options

SecretData: TypeAlias = Mapping[str, str]
"""What one secret holds, by key."""

Secrets: TypeAlias = Mapping[tuple[str, str], SecretData]
"""What is there, by namespace and name."""

CERTIFICATE_KEY: Final = "tls.crt"
PRIVATE_KEY: Final = "tls.key"
AUTHORITIES_KEY: Final = "ca.crt"
DEFAULT_NAMESPACE: Final = "default"

_NAME_DIGITS: Final = 16
_TLS: Final = "extensions.transport_sockets.tls.v3."
_TLS_SOCKET: Final = "envoy.transport_sockets.tls"
_PROTOCOLS: Final = ["h2", "http/1.1"]
_PROTOCOLS_IN_CLEAR: Final = ["http/1.1", "h2"]
"""Most servers in clear speak HTTP/1 only, and requests go on as they came: so HTTP/2 is for clients that
take nothing else, as gRPC's do."""


def secret_place(secret: SecretRef) -> tuple[str, str]:
    """Where a secret is: namespace and name."""
    return secret.namespace or DEFAULT_NAMESPACE, secret.name


def context_name(context: TlsContext) -> str:
    """What the secret and the upstream of a context are called."""
    keys = (context.certificate, context.private_key, context.trusted_ca)
    fields = (*secret_place(context.secret), *keys)
    return f"tls-{sha256(repr(fields).encode()).hexdigest()[:_NAME_DIGITS]}"


def shown_certificate(context: TlsContext, secrets: Secrets) -> tuple[str, bytes] | None:
    """The file of the certificate to show to clients; None if the secret is not there, or has none."""
    data = secrets.get(secret_place(context.secret), {})
    certificate = data.get(context.certificate or CERTIFICATE_KEY)
    key = data.get(context.private_key or PRIVATE_KEY)
    if not certificate or not key:
        return None
    shown = {
        "certificate_chain": {"inline_string": certificate},
        "private_key": {"inline_string": key},
    }
    return _file(f"{context_name(context)}-shown", tls_certificate=shown)


def trusted_authorities(context: TlsContext, secrets: Secrets) -> tuple[str, bytes] | None:
    """The file of the authorities to believe servers by; None if the secret is not there, or has none."""
    data = secrets.get(secret_place(context.secret), {})
    trusted = data.get(context.trusted_ca or AUTHORITIES_KEY)
    if not trusted:
        return None
    return _file(
        f"{context_name(context)}-trusted",
        validation_context={"trusted_ca": {"inline_string": trusted}},
    )


def ending_socket(context: TlsContext, settings: EnvoySettings, *, begun_anew: bool) -> Json:
    """How TLS of clients is ended; `begun_anew`: the server is spoken to by TLS, too."""
    source = _source(f"{context_name(context)}-shown", settings)
    protocols = _PROTOCOLS if begun_anew else _PROTOCOLS_IN_CLEAR
    common = {"alpn_protocols": protocols, "tls_certificate_sds_secret_configs": [source]}
    return extension(_TLS_SOCKET, f"{_TLS}DownstreamTlsContext", common_tls_context=common)


def originating_cluster(context: TlsContext, ordinary: Json, settings: EnvoySettings) -> Json:
    """The ordinary upstream, spoken to by TLS: the name asked for is the request's host.

    The server chooses between HTTP/1 and HTTP/2, whatever the client speaks.
    """
    source = _source(f"{context_name(context)}-trusted", settings)
    common = {"validation_context_sds_secret_config": source}
    options: Json = {
        "auto_config": {"http_protocol_options": HTTP1_OPTIONS, "http2_protocol_options": {}},
        "upstream_http_protocol_options": {"auto_sni": True, "auto_san_validation": True},
    }
    return {
        **typed("config.cluster.v3.Cluster"),
        **ordinary,
        "name": context_name(context),
        "transport_socket": extension(
            _TLS_SOCKET, f"{_TLS}UpstreamTlsContext", common_tls_context=common
        ),
        "typed_extension_protocol_options": http_options(**options),
    }


def _file(name: str, **fields: Json) -> tuple[str, bytes]:
    _, data = discovery([typed(f"{_TLS}Secret", name=name, **fields)])
    return secret_file(name), data


def _source(name: str, settings: EnvoySettings) -> Json:
    return {"name": name, "sds_config": watched(str(settings.folder / secret_file(name)))}
