"""Units in; TUF metadata and targets out."""
