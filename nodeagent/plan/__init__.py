"""Bundle, endpoints and identities in; the contents of one generation out. Pure."""
