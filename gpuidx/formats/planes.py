# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a message's array that the panels lie in: fixed indices chosen, frame dimensions left out."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats.frame import check_shape
from gpuidx.geometry import DataArray

MOST_LARGER = 64
"""Times that an array may have more pixels than the panels cover: one module of a large detector, say."""


def plane_shape(shape: Sequence[int], place: DataArray, name: str) -> tuple[int | slice, ...]:
    """The index that gives (ss, fs) of an array; checked before a pixel is decompressed.

    Dimensions that the geometry calls ``%`` count frames: a message with one frame may lack them, or have
    the size 1 there.

    Parameters
    ----------
    shape
        Of the array in the message.
    place
        What the geometry wants of it.
    name
        Of the array, for texts.

    Raises
    ------
    Rejected
        If the array has other dimensions, or is too small, or larger than any detector of that geometry.
    """
    dims = place.dims if len(place.dims) == len(shape) else tuple(dim for dim in place.dims if dim != "%")
    if len(dims) != len(shape):
        raise Rejected(
            "wrong shape", f"{name} has shape {_short(shape)}; the geometry has {', '.join(map(str, dims))}"
        )
    index: list[int | slice] = []
    size = dict[str, int]()
    for dim, extent in zip(dims, shape, strict=True):
        if dim in ("ss", "fs"):
            index.append(slice(None))
            size[str(dim)] = extent
            continue
        at = 0 if dim == "%" else int(dim)
        if at >= extent or (dim == "%" and extent != 1):
            raise Rejected("wrong shape", f"{name} has shape {_short(shape)}; the geometry has {dim} in it")
        index.append(at)
    check_shape(name.strip("'"), (size["ss"], size["fs"]), place.shape)
    if size["ss"] * size["fs"] > MOST_LARGER * place.shape[0] * place.shape[1]:
        raise Rejected(
            "wrong shape", f"{name} has shape {_short(shape)}, the geometry needs no more than {place.shape}"
        )
    return tuple(index)


def plane(array: NDArray[Any], place: DataArray, name: str) -> NDArray[Any]:
    """(ss, fs) of an array; a view.  Parameters and errors as `plane_shape`."""
    part: NDArray[Any] = array[plane_shape(array.shape, place, name)]
    return part


def shape_of(arrays: Sequence[DataArray]) -> tuple[int, ...]:
    """The smallest shape that has all panels, for senders that do not say theirs."""
    dims = [tuple(dim for dim in array.dims if dim != "%") for array in arrays]
    shape = [0] * len(dims[0])
    for array, own in zip(arrays, dims, strict=True):
        if len(own) != len(shape):
            raise Rejected(
                "wrong shape", "the message has one array, the geometry several of other dimensions"
            )
        for axis, dim in enumerate(own):
            least = array.shape[dim == "fs"] if dim in ("ss", "fs") else int(dim) + 1
            shape[axis] = max(shape[axis], least)
    return tuple(shape)


def _short(shape: Sequence[int]) -> str:
    return f"{tuple(shape)}"[:60]
