"""Bins of any setting, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from obc.bins import OffsetBins


@st.composite
def any_bins(draw: st.DrawFn) -> OffsetBins:
    include = draw(st.booleans())
    num_stages = draw(st.integers(1, 4))
    ranges = st.floats(0.01, 50)
    return OffsetBins(
        num_bins=draw(st.integers(3 if include else 1, 40)),
        max_offset=draw(ranges),
        num_stages=num_stages,
        stage_ranges=draw(st.none() | st.lists(ranges, min_size=num_stages, max_size=num_stages)),
        bins_include_overflow=include,
        out_of_range=draw(st.sampled_from(["overflow", "ignore"])),
        later_out_of_range=draw(st.sampled_from(["overflow", "clamp", "ignore"])),
    )
