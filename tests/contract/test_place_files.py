"""A place that is a folder of this machine passes what every site's files must."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connectors.base import SiteFiles
from connectors.contract import FilesContract
from connectors.errors import SiteUnreachable
from connectors.files.place import FolderPlace


class PlaceRig:
    """As much of a rig as the files' part of the kit asks for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def connect(self) -> Any:
        return FolderPlace("shelf:", self.folder)


class TestFolderPlace(FilesContract):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> PlaceRig:
        (tmp_path / "shelf").mkdir()
        return PlaceRig(tmp_path / "shelf")


def test_it_has_every_verb_of_a_sites_files(tmp_path: Path) -> None:
    assert isinstance(FolderPlace("shelf:", tmp_path), SiteFiles)


def test_a_folder_that_is_away_is_dark_and_is_not_made(tmp_path: Path) -> None:
    place = FolderPlace("shelf:", tmp_path / "away")
    for ask in (
        lambda: place.read("a"),
        lambda: place.write("a", b"x"),
        lambda: place.list(""),
        lambda: place.remove(["a"]),
    ):
        with pytest.raises(SiteUnreachable):
            ask()
    assert not (tmp_path / "away").exists()
