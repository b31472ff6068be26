"""The typed mirror of config/: tables, runs, scales, claims and the plan. Needs no torch."""
