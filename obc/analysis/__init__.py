"""From metrics to verdicts: collected numbers, intervals, spreads, judged claims."""
