"""Links worth fetching: from Reddit dumps and lists of URLs to one table."""
