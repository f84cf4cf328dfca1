"""From a page of HTML to its text."""
