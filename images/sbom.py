"""Say what is in an image, as CycloneDX 1.5 has it.

In:   Debian's package status, the metadata of Python distributions
Out:  a JSON document; equal content, equal bytes
Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.parser import HeaderParser
from urllib.parse import quote

from images.recipe import SUITE


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Component:
    """One package. `purl` names it for vulnerability databases."""

    purl: str
    name: str
    version: str
    licence: str = ""


def debian_components(status: str) -> tuple[Component, ...]:
    """The packages of `/var/lib/dpkg/status`."""
    paragraphs = (HeaderParser().parsestr(text) for text in status.split("\n\n") if text.strip())
    return tuple(
        _debian(fields["Package"], fields["Version"], fields["Architecture"])
        for fields in paragraphs
        if fields["Status"].endswith(" installed")
    )


def python_component(metadata: str) -> Component:
    """A distribution by its `METADATA`."""
    fields = HeaderParser().parsestr(metadata)
    name, version = fields["Name"], fields["Version"]
    licence = fields.get("License-Expression", "")
    return Component(
        purl=f"pkg:pypi/{quote(name.lower().replace('_', '-'))}@{quote(version)}",
        name=name,
        version=version,
        licence=licence,
    )


def document(title: str, version: str, components: Iterable[Component], *, epoch: int) -> bytes:
    """The whole document."""
    made = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return json.dumps(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {
                "timestamp": made,
                "component": {"type": "container", "name": title, "version": version},
            },
            "components": [_described(component) for component in sorted(set(components))],
        },
        indent=1,
    ).encode()


def _debian(name: str, version: str, architecture: str) -> Component:
    place = f"pkg:deb/debian/{quote(name)}@{quote(version)}"
    purl = f"{place}?arch={architecture}&distro={SUITE}"
    return Component(purl=purl, name=name, version=version)


def _described(component: Component) -> dict[str, object]:
    described: dict[str, object] = {
        "type": "library",
        "bom-ref": component.purl,
        "name": component.name,
        "version": component.version,
        "purl": component.purl,
    }
    if component.licence:
        described["licenses"] = [{"expression": component.licence}]
    return described
