"""Around the runs: plan, costs, status, reasons, checks of the machine, imported weights."""
