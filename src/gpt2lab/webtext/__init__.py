"""From links to clean documents: fetch, extract, filter, remove duplicates, measure overlap. Knows no networks."""
