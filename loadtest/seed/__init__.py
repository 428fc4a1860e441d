"""The seed design, to be measured beside ours: `loadtest/seed/run`."""
