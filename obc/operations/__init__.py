"""Operations around the runs: plan, costs, status, reasons, machine checks, imported weights."""
