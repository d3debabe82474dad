"""Objects in; diagnostics out. One check a file. Pure."""
