"""Before, during and after a training: what it will cost, how far it is, what went wrong."""
