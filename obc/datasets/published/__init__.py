"""Published data and weights: catalogue, downloading, checking, unpacking."""
