"""The polite crawl: from links to WARC files and a log."""
