# SPDX-License-Identifier: GPL-3.0-or-later
"""What a geometry asks for that streamed messages cannot give, or that is not there; known before the run."""

from pathlib import Path

from gpuidx.errors import GeometryError
from gpuidx.geometry.detector import Geometry

WITH_DATA_SETS = ("auto", "hdf5")
"""Values of ``--data-format`` whose messages are, or may be, files: masks, and arrays of any dimensions."""


def streaming_problems(
    geometry: Geometry, *, read_masks: bool = True, read_images: bool = True, data_format: str = "msgpack"
) -> list[str]:
    """What cannot work with streamed messages, one line each; to be refused before the run.

    Parameters
    ----------
    read_masks
        Whether masks are wanted (``--no-mask-data``).
    read_images
        Whether images are wanted (``--no-image-data``); only they have dimensions.  In formats with one image
        a frame, fixed indices and the placeholder say nothing.
    data_format
        Of the messages; where it is not known before they come (``auto``), nothing is refused.
    """
    if data_format in WITH_DATA_SETS:
        return []
    problems: dict[str, str] = {}
    for panel in geometry.panels:
        if read_images and data_format == "msgpack" and panel.dims != ("ss", "fs"):
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


def check_mask_files(geometry: Geometry, *, read_masks: bool = True) -> None:
    """See whether the files of masks and saturation maps are there; nothing is opened.

    Parameters
    ----------
    read_masks
        Whether masks are wanted (``--no-mask-data``).

    Raises
    ------
    GeometryError
        For the first that is missing.
    """
    named: dict[str, int | None] = {}
    for panel in geometry.panels:
        for mask in panel.masks if read_masks and not panel.no_index else ():
            if mask.file is not None:
                named.setdefault(mask.file, mask.line)
        if panel.saturation_map_file is not None:
            named.setdefault(panel.saturation_map_file, None)
    for file, line in named.items():
        if not Path(file).exists():
            raise missing_file(geometry.file, line, file)


def missing_file(geometry_file: str, line: int | None, file: str) -> GeometryError:
    """The error for a file that the geometry names and that is not there."""
    text = f"'{file}' does not exist; names are relative to the folder in which the run is started"
    return GeometryError(geometry_file, line, text)
