"""The command line: `farandole COMMAND`, one module of this package per command."""
