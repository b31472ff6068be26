"""Raises an error that says what to install if MMDetection, MMEngine or MMCV is missing."""

try:
    import mmcv  # noqa: F401
    import mmdet  # noqa: F401
    import mmengine  # noqa: F401
except ModuleNotFoundError as error:
    if error.name not in ("mmcv", "mmdet", "mmengine"):
        raise
    raise ModuleNotFoundError(
        f"the heads of obc need MMDetection with MMEngine and MMCV; {error.name} is not installed: "
        "pip install 'offset-bin-classification[onedl]', or OpenMMLab's originals (docs/head.md "
        "says which versions)",
        name=error.name,
    ) from None
