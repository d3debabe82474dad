"""BCC programs made on demand; run in a process of their own."""
