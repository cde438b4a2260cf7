"""The names of what records are read from."""

from __future__ import annotations

from jaxgen.configuration.table import Table


def registered_sources() -> Table:
    """Returns the names of sources of files and of text that comes with Python."""
    from jaxgen.data.bigbench import BigBench
    from jaxgen.data.embedded import StandardLibraryCode, StandardLibraryProse
    from jaxgen.data.prepared import PreparedCorpus
    from jaxgen.data.sources import InMemory
    from jaxgen.data.tables import ArrayRecord, HuggingFaceDataset, Parquet
    from jaxgen.data.text_files import Jsonl, TextFiles
    from jaxgen.data.web_dataset import WebDataset

    return {
        "text_files": TextFiles,
        "jsonl": Jsonl,
        "parquet": Parquet,
        "array_record": ArrayRecord,
        "hf_dataset": HuggingFaceDataset,
        "webdataset": WebDataset,
        "big_bench": BigBench,
        "in_memory": InMemory,
        "prepared": PreparedCorpus,
        "standard_library_code": StandardLibraryCode,
        "standard_library_prose": StandardLibraryProse,
    }
