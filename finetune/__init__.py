"""From a wiki, or from nothing, to a checkpoint: a command a folder; `server.cli.PIPELINE` lists them."""
