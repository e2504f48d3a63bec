"""Makes every sentence from typed facts, for the command line, the page, the log and notices."""
