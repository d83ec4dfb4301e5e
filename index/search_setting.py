"""The parameter that trades recall for time: lists to visit, or the width of a graph search."""

from dataclasses import dataclass
from typing import Any

from remine.data.faiss_library import faiss

swig: Any = faiss  # the stubs lack C++ fields and keyword arguments
BEAMS = tuple(16 << i for i in range(7))


@dataclass(frozen=True, kw_only=True)
class Knob:
    """The parameter of an index.

    Attributes:
        name: "nprobe", "efSearch" or "none".
        settings: Values to measure, least exact first.
    """

    name: str
    settings: tuple[int, ...]


def knob_of(index: faiss.Index) -> Knob:
    """The knob of an index from `inner_of`."""
    if lists := lists_of(index):
        powers = [1 << i for i in range(lists.nlist.bit_length())]
        settings = tuple(p for p in powers if p < lists.nlist)
        return Knob(name="nprobe", settings=(*settings, lists.nlist))
    if isinstance(_core(index), faiss.IndexHNSW):
        return Knob(name="efSearch", settings=BEAMS)
    return Knob(name="none", settings=(0,))


def inner_of(index: faiss.Index) -> Any:
    """The index below the map of ids, which answers with places in the order of adding."""
    if not isinstance(index, swig.IndexIDMap):
        return index
    inner = swig.downcast_index(index.index)
    inner.referenced_objects = [index]  # which frees the inner index when it is freed
    return inner


def lists_of(index: swig.Index) -> Any:
    """The inverted lists, also below a transform or a refinement; None if there are none."""
    if isinstance(index, swig.IndexRefine):
        index = swig.downcast_index(index.base_index)
    return swig.try_extract_index_ivf(index)


def parameters(index: Any, setting: int, selector: Any = None) -> Any:
    """FAISS search parameters for one call.

    Parameters of a call do not change the index, so threads may share it.

    Args:
        index: The index, with or without transforms and refinements.
        setting: Value of the knob.
        selector: A FAISS IDSelector of the items to search, or None.
    """
    index = swig.downcast_index(index)
    selection = {"sel": selector} if selector is not None else {}
    if isinstance(index, swig.IndexPreTransform):
        below = parameters(index.index, setting, selector)
        result = swig.SearchParametersPreTransform(index_params=below)
        result.referenced_objects = [below]  # FAISS stores a bare pointer to it
    elif isinstance(index, swig.IndexRefine):
        below = parameters(index.base_index, setting, selector)
        result = swig.IndexRefineSearchParameters(k_factor=index.k_factor, base_index_params=below)
        result.referenced_objects = [below]
    elif isinstance(index, swig.IndexIVF):
        result = swig.SearchParametersIVF(nprobe=max(1, setting), **selection)
    elif isinstance(index, swig.IndexHNSW):
        result = swig.SearchParametersHNSW(efSearch=max(1, setting), **selection)
    else:
        result = swig.SearchParameters(**selection) if selection else None
    return result


def takes_selector(index: Any) -> bool:
    """Whether FAISS can restrict a search of this index to selected items."""
    core = _core(index)
    return isinstance(
        core, swig.IndexIVF | swig.IndexHNSW | swig.IndexFlat | swig.IndexScalarQuantizer
    )


def _core(index: Any) -> Any:
    """The index below transforms and refinements."""
    index = swig.downcast_index(index)
    if isinstance(index, swig.IndexPreTransform):
        return _core(index.index)
    if isinstance(index, swig.IndexRefine):
        return _core(index.base_index)
    return index
