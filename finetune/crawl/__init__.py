"""Episode summaries from a MediaWiki."""
