"""Git in; the policy files of one verified revision out."""
