"""A corpus that `jaxgen prepare` has made: token files and a manifest that describes them."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any, ClassVar

from jaxgen.codecs.codec import Codec
from jaxgen.data.hashing import hash64
from jaxgen.data.protocols import Split
from jaxgen.data.storage import digest_of
from jaxgen.data.token_files import read_token_file
from jaxgen.data.token_store import TokenStore
from jaxgen.errors import DataError
from jaxgen.json_values import check_file_name, check_shape, read_json

FORMAT = 2
MANIFEST = "manifest.json"
DIGESTED = ("tokens", "offsets")
"""The kinds of files that the digest of a shard covers."""
FILES = [{"name": check_file_name, "tokens": int, "documents": int, "digest": str}]
SHAPE = {"codec": str, "splits": {"train": FILES, "heldout": FILES}, "settings": {"files": dict}}
"""The shape of a manifest."""


@dataclasses.dataclass(frozen=True)
class PreparedCorpus:
    """The tokens of a prepared corpus; a task's codec must be the one it was made with.

    Attributes:
      folder: the folder that `jaxgen prepare` wrote.
    """

    folder: str

    DATA_FILES: ClassVar = ("folder",)

    @functools.cached_property
    def manifest(self) -> dict[str, Any]:
        """Returns the manifest that the preparation wrote.

        Raises:
          DataError: if it is not there, or of another version.
        """
        path = Path(self.folder) / MANIFEST
        try:
            found = read_json(path, {}, "prepare the corpus again", DataError)
        except FileNotFoundError as error:
            begun = (Path(self.folder) / "work").exists()
            what = (
                "was not finished: run its command again" if begun else "is not a prepared corpus"
            )
            raise DataError(f"{self.folder} {what} (it has no {MANIFEST}).") from error
        if found.get("format") != FORMAT:
            raise DataError(
                f"{path} is of format {found.get('format')!r:.40}, and this jaxgen reads {FORMAT}; "
                "prepare the corpus again."
            )
        try:
            check_shape(found, SHAPE)
        except ValueError as error:
            raise DataError(f"{path}: {error}; prepare the corpus again.") from error
        return found

    def tokens(self, split: Split, codec: Codec) -> TokenStore:
        """Opens the documents of a split; see `TokenSource`.

        Raises:
          DataError: if another codec made the tokens, or a file is missing or damaged.
        """
        if self.manifest["codec"] != codec.digest:
            raise DataError(
                f"{self.folder} was tokenised by {self.manifest['codec']}, and the task's codec is "
                f"{codec.digest}: give the task that tokenizer, or prepare the corpus again."
            )
        return TokenStore(self.places(split))

    def places(self, split: Split) -> tuple[tuple[str, str], ...]:
        """Returns (folder, name) of each token file, checked to be whole.

        Raises:
          DataError: naming a file that is missing or does not fit the manifest.
        """
        places = []
        for file in self.manifest["splits"][split]:
            found = read_token_file(Path(self.folder), file["name"])
            if len(found.tokens) != file["tokens"] or len(found.offsets) != file["documents"] + 1:
                raise DataError(
                    f"{self.folder}/{file['name']} has {len(found.tokens)} tokens in "
                    f"{len(found.offsets) - 1} documents, and {MANIFEST} says {file['tokens']} in "
                    f"{file['documents']}; prepare the corpus again."
                )
            if file["documents"]:
                places.append((self.folder, file["name"]))
        if not places:
            raise DataError(
                f"{self.folder} has no document in the {split} split; prepare it with another "
                "heldout_fraction."
            )
        return tuple(places)

    def content_digest(self) -> str:
        """Returns a digest of the tokenizer and of every file, wherever they came from."""
        kept = {name: self.manifest[name] for name in ("codec", "splits")}
        return f"{hash64(json.dumps(kept, sort_keys=True)):016x}"

    def check_digests(self) -> int:
        """Reads every shard, and returns how many there are.

        Raises:
          DataError: naming one whose bytes are not those that were written.
        """
        count = 0
        for split in ("train", "heldout"):
            for file in self.manifest["splits"][split]:
                path = Path(self.folder) / file["name"]
                if digest_of([f"{path}.{kind}" for kind in DIGESTED]) != file["digest"]:
                    raise DataError(
                        f"{path}.tokens or .offsets is damaged: their digest is not the "
                        "manifest's; prepare the corpus again."
                    )
                count += 1
        return count
