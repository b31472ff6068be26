"""The method as a plug-in of MMDetection: box coders and heads."""

import obc.mmdetection  # noqa: F401
