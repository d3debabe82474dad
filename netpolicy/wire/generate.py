"""Generate the Python code of every .proto file here: `python -m netpolicy.wire.generate [OUT]`.

In:   netpolicy/wire/**/*.proto
Out:  *_pb2.py, *_pb2.pyi and *_pb2_grpc.py beside them, or under another root (a test compares)

The generated files are committed, so that running the programs needs no compiler. Paths are given
from the project's root: generated modules then import each other by their real names.
"""

from __future__ import annotations

import sys
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[2]
WIRE = Path("netpolicy/wire")


def proto_files() -> tuple[str, ...]:
    """Every .proto file, relative to the project's root."""
    found = (PROJECT_ROOT / WIRE).rglob("*.proto")
    return tuple(sorted(str(path.relative_to(PROJECT_ROOT)) for path in found))


def generate(out: Path) -> None:
    """Generate into `out`, which gets the same folders as the project's root."""
    from grpc_tools import protoc  # noqa: PLC0415  # a development tool: absent where programs run

    arguments = [
        "protoc",
        f"--proto_path={PROJECT_ROOT}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        *proto_files(),
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PROJECT_ROOT)
