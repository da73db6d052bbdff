"""Where a competition's files lie."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """Folders of one competition: raw data below ``data``, everything made below ``out``."""

    data: Path
    out: Path
    source: str
    """Competition name, as below ``input/``."""
    name: str
    """Folder name of what is made; differs from ``source`` in a smoke run."""
    home: Path | None = None
    """Where the weights lie; None for ``out``, another folder where a trained solution is applied to other pictures."""

    @property
    def input(self) -> Path:
        """Raw data in the organizer's own layout; only stage 00 writes here."""
        return self.data / "input" / self.source

    @property
    def folds(self) -> Path:
        """``index.parquet``, ``folds.csv``, ``quarantine.csv``."""
        return self.out / "folds" / self.name

    @property
    def cache(self) -> Path:
        """Localizations and shards of pixels."""
        return self.out / "cache" / self.name

    @property
    def weights(self) -> Path:
        """``<experiment>/fold0.safetensors`` and the training logs."""
        return (self.home or self.out) / "weights" / self.name

    @property
    def oof(self) -> Path:
        """``<name>/fold0.parquet``, ``fold0_test.parquet``, embeddings."""
        return self.out / "oof" / self.name

    @property
    def sources(self) -> Path:
        """``<name>/``: pictures of another source that may join the training rows, with all that is made of them."""
        return self.out / "sources" / self.name

    @property
    def submissions(self) -> Path:
        """``<name>.csv``."""
        return self.out / "submissions" / self.name

    @property
    def reports(self) -> Path:
        """``scores.csv`` and the competition's own tables and pictures."""
        return self.out / "reports" / self.name

    @property
    def bundle(self) -> Path:
        """What applying the final model needs and nothing else, to be taken elsewhere."""
        return self.out / "bundles" / self.name
