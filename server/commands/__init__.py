"""The commands of `pokegen` that write texts and run the service: a module each; server/cli.py lists them."""
