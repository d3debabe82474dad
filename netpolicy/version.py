"""The version of both programs: what a publication is compiled by, what an agent says it is."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
