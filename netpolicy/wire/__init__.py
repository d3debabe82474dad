"""The messages on the wire: .proto files, and the code generated from them (`generate.py`)."""
