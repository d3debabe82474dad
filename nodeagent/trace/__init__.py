"""BCC programs made on demand: live kernel drops of the packets that were asked for.

`cli` reads the question and starts `probe` in a process of its own, so that LLVM is never in the
agent's memory. `environment` says what a node lacks; `btf`, `tracepoint`, `program` and `records`
are pure: kernel layouts and a filter in, C text and drops out.
"""
