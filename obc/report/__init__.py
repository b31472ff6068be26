"""From what the runs wrote to the paper's tables and figures, each number beside the paper's."""
