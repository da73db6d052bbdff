"""Where names stand in a table of millions."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc


def places(known: pd.Series, wanted: pd.Series) -> np.ndarray:
    """Place of each of ``wanted`` in ``known``, which holds each name once; -1 where it is not there. Int [wanted].

    As ``pd.Index(known).get_indexer(wanted)``, which compares texts as Python objects that lie anywhere in memory: 2 to 4
    times the seconds, and more than in proportion to the rows.
    """
    if not known.dtype == wanted.dtype == "str":
        return pd.Index(known).get_indexer(pd.Index(wanted))
    found = pc.index_in(_texts(wanted), value_set=_texts(known))
    return pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.intp)


def _texts(names: pd.Series) -> pa.Array:
    made = pa.array(names, pa.large_string())
    return made.combine_chunks() if isinstance(made, pa.ChunkedArray) else made
