"""The `obc` command."""
