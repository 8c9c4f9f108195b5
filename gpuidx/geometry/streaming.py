# SPDX-License-Identifier: GPL-3.0-or-later
"""What a geometry asks for that streamed messages cannot give; known before the run."""

from gpuidx.geometry.detector import Geometry


def streaming_problems(geometry: Geometry, *, read_masks: bool = True, read_images: bool = True) -> list[str]:
    """What cannot work with MsgPack streams, one line each; to be refused before the run.

    Parameters
    ----------
    read_masks
        Whether masks are wanted (``--no-mask-data``).
    read_images
        Whether images are wanted (``--no-image-data``); only they have dimensions.
    """
    problems: dict[str, str] = {}
    for panel in geometry.panels:
        if read_images and panel.dims != ("ss", "fs"):
            shown = ", ".join(map(str, panel.dims))
            problems.setdefault(
                "dims", f"panel {panel.name}: streamed images are two-dimensional, but its data are {shown}"
            )
        for mask in panel.masks if read_masks and not panel.no_index else ():
            if mask.file is None:
                text = f"mask '{mask.data}' has no file of its own; give its maskN_file or --no-mask-data"
                problems.setdefault(f"mask {mask.data}", f"panel {panel.name}: {text}")
        if panel.saturation_map is not None and panel.saturation_map_file is None:
            text = f"saturation_map '{panel.saturation_map}' has no file of its own; give saturation_map_file"
            problems.setdefault("saturation", f"panel {panel.name}: {text}")
    return list(problems.values())
