"""The one number that trades recall for time in an index: lists visited, or a graph's beam."""

from dataclasses import dataclass
from typing import Any

from remine.data.faiss_library import faiss

swig: Any = faiss  # its stubs know neither C++ fields nor keyword arguments
BEAMS = tuple(16 << i for i in range(7))


@dataclass(frozen=True, kw_only=True)
class Knob:
    """What is turned (`nprobe`, `efSearch`, or `none`), to which settings, least exact first."""

    name: str
    settings: tuple[int, ...]


def knob_of(index: faiss.Index) -> Knob:
    """The knob of an index that `inner_of` gave."""
    if lists := lists_of(index):
        powers = [1 << i for i in range(lists.nlist.bit_length())]
        settings = tuple(p for p in powers if p < lists.nlist)
        return Knob(name="nprobe", settings=(*settings, lists.nlist))
    if isinstance(_core(index), faiss.IndexHNSW):
        return Knob(name="efSearch", settings=BEAMS)
    return Knob(name="none", settings=(0,))


def inner_of(index: faiss.Index) -> Any:
    """The index under the map of ids, which answers with places in the order of adding."""
    if not isinstance(index, swig.IndexIDMap):
        return index
    inner = swig.downcast_index(index.index)
    inner.referenced_objects = [index]  # which frees it when it goes
    return inner


def lists_of(index: swig.Index) -> Any:
    """The inverted lists, also below a transform or a refinement; None where there are none."""
    if isinstance(index, swig.IndexRefine):
        index = swig.downcast_index(index.base_index)
    return swig.try_extract_index_ivf(index)


def parameters(index: Any, setting: int, selector: Any = None) -> Any:
    """FAISS search parameters for one call: the knob at `setting`, only what `selector` keeps.

    Calls with parameters of their own leave the index as it is, so threads may share it.
    """
    index = swig.downcast_index(index)
    given = {"sel": selector} if selector is not None else {}
    if isinstance(index, swig.IndexPreTransform):
        below = parameters(index.index, setting, selector)
        made = swig.SearchParametersPreTransform(index_params=below)
        made.referenced_objects = [below]  # FAISS holds a bare pointer to it
    elif isinstance(index, swig.IndexRefine):
        below = parameters(index.base_index, setting, selector)
        made = swig.IndexRefineSearchParameters(k_factor=index.k_factor, base_index_params=below)
        made.referenced_objects = [below]
    elif isinstance(index, swig.IndexIVF):
        made = swig.SearchParametersIVF(nprobe=max(1, setting), **given)
    elif isinstance(index, swig.IndexHNSW):
        made = swig.SearchParametersHNSW(efSearch=max(1, setting), **given)
    else:
        made = swig.SearchParameters(**given) if given else None
    return made


def takes_selector(index: Any) -> bool:
    """Whether FAISS can leave items out of a search of this index."""
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
