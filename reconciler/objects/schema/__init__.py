"""What each policy API's documents look like: the first check every document meets."""
