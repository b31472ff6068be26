"""Published data and weights: what there is, downloading, checking, unpacking."""
