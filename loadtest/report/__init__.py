"""The report of load tests: what `make loadtest` left below run/loadtest, as a page and as docs/load.md.

runs.py reads, figures.py computes, comparison.py sets ours beside the seed design, tables.py and plots.py show, page.py
and markdown.py put it together.
"""
