"""Removing what a `keep` names: only what is due, only what is ours, only what lies elsewhere by digest, and once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from broker_kit import Lab, Stage, site

from broker.audit import check_all
from broker.audit.whole import Checked
from broker.clock import micros
from broker.retention import Keeper, Outcome, Retention
from broker.retention.removing import CLAIM_SECONDS
from broker.store.base import RetentionRow
from connectors.base import PlaceFiles
from connectors.errors import SiteUnreachable, UnsafePath
from connectors.files.collection import CollectionFiles
from connectors.files.place import FolderPlace
from connectors.files.url_place import UrlPlace
from connectors.registry import PlaceConfig, PlaceSetup, make_place

DAY = 86_400.0


class Ground:
    """A run that has copied spot:raw/ to cfs:raw/ and data:raw/, and folders where that really lies."""

    def __init__(self, folder: Path, *, unless: Mapping[str, Any] | None = None, after: float = 7 * DAY) -> None:
        self.folder = folder
        self.lab = Lab(site("nersc"), places=["spot", "cfs", "data"])
        self.lab.put("spot:raw/x", b"one")
        self.lab.put("spot:raw/d/y", b"two")
        self.places = {name: replace(config, prune=True) for name, config in self.lab.places.items()}
        self.files: dict[str, PlaceFiles] = {}
        for name in self.places:
            (folder / name).mkdir()
            self.files[f"{name}:"] = FolderPlace(f"{name}:", folder / name)
            self.write(name)
        sides = [["cfs:", "raw/"]]
        wish = {"side": "spot:", "path": "raw/", "after": after, "entry": 0, "all": sides, "any": sides}
        copy = Stage("c", copies=[("spot:raw/", "cfs:raw/")], keep=[{**wish, **(unless or {})}])
        self.run_id = self.lab.submit(copy)
        assert self.lab.finish(self.run_id) == "SUCCEEDED"

    def write(self, place: str, **files: bytes) -> None:
        content = {"raw/x": b"one", "raw/d/y": b"two"} | {path.replace("__", "/"): c for path, c in files.items()}
        for path, data in content.items():
            target = self.folder / place / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

    def there(self, place: str) -> list[str]:
        top = self.folder / place
        return sorted(path.relative_to(top).as_posix() for path in top.rglob("*"))

    def retention(self) -> Retention:
        configs = self.lab.configs
        files = {**self.lab.sites, **self.files}
        return Retention(store=self.lab.store, configs=configs, places=self.places, files=files, clock=self.lab.clock)

    def later(self, seconds: float = 8 * DAY) -> None:
        self.lab.clock.advance(seconds)

    def pass_(self) -> list[Outcome]:
        return list(self.retention().run())

    @property
    def row(self) -> RetentionRow:
        (row,) = self.lab.store.retention()
        return row

    def removals(self, stream: str = "place:spot") -> list[dict[str, Any]]:
        return [json.loads(e.data) for e in self.lab.store.events(stream) if e.kind == "removed"]


def made(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.decision.outcome for outcome in outcomes]


def why(outcomes: Sequence[Outcome]) -> str:
    return "; ".join(reason.fact for outcome in outcomes for reason in outcome.decision.reasons)


# -- what is removed -----------------------------------------------------------------------------------------


def test_nothing_is_removed_before_its_time(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.later(6 * DAY)
    assert ground.pass_() == []
    assert "raw/x" in ground.there("spot")


def test_what_is_due_and_lies_elsewhere_by_digest_is_removed_and_told(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.later()
    (outcome,) = ground.pass_()
    assert (outcome.decision.outcome, outcome.files, outcome.bytes) == ("remove", 2, 6)
    assert ground.there("spot") == []
    assert ground.there("cfs") == ["raw", "raw/d", "raw/d/y", "raw/x"]
    assert (ground.row.state, ground.row.reason, ground.row.due_at) == ("removed", "2 files, 6 bytes", None)
    (told,) = ground.removals()
    assert (told["run"], told["path"], told["files"], told["bytes"]) == (ground.run_id, "raw/", 2, 6)
    assert "cfs holds the same, by digest" in told["why"]
    assert list(check_all(ground.lab.store, Checked())) == []
    assert ground.pass_() == []


def test_what_lies_beside_our_own_path_is_left_alone(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.write("spot", raw2__z=b"not ours", other=b"neither")
    ground.later()
    assert made(ground.pass_()) == ["remove"]
    assert ground.there("spot") == ["other", "raw2", "raw2/z"]


def test_a_rehearsal_says_what_would_be_done_and_does_nothing(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.later()
    before = ground.row
    (outcome,) = ground.retention().rehearse()
    assert (outcome.decision.outcome, outcome.files) == ("remove", 2)
    assert ground.row == before
    assert "raw/x" in ground.there("spot")
    assert ground.removals() == []


def test_what_is_gone_already_is_told_as_such(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    for path in ("raw/x", "raw/d/y"):
        (tmp_path / "spot" / path).unlink()
    ground.later()
    assert made(ground.pass_()) == ["gone"]
    assert (ground.row.state, ground.row.reason) == ("removed", "nothing was left")


# -- what keeps it -------------------------------------------------------------------------------------------


def test_another_content_under_the_same_name_and_size_keeps_it(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.write("cfs", raw__x=b"0ne")
    ground.later()
    outcomes = ground.pass_()
    assert made(outcomes) == ["keep"]
    assert why(outcomes) == "cfs does not hold the same x"
    assert (ground.row.state, ground.row.reason) == ("refused", "cfs does not hold the same x")
    assert "raw/x" in ground.there("spot")
    assert ground.removals() == []


def test_a_refusal_is_looked_at_again_and_cured(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    (tmp_path / "cfs" / "raw" / "x").unlink()
    ground.later()
    assert made(ground.pass_()) == ["keep"]
    assert ground.pass_() == []
    ground.write("cfs")
    ground.later(3700)
    assert made(ground.pass_()) == ["remove"]


def test_a_file_that_somebody_has_added_keeps_the_folder(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.write("spot", raw__notes=b"by hand")
    ground.later()
    assert why(ground.pass_()) == "cfs does not hold the same notes"


def test_the_last_good_copy_stays(tmp_path: Path) -> None:
    ground = Ground(tmp_path, unless={"all": [], "any": [["cfs:", "raw/"], ["data:", "raw/"]]})
    (tmp_path / "cfs" / "raw" / "x").unlink()
    (tmp_path / "data" / "raw" / "x").write_bytes(b"bad")
    ground.later()
    assert why(ground.pass_()) == "no other good copy of x was found"


def test_each_file_may_have_its_other_copy_elsewhere(tmp_path: Path) -> None:
    ground = Ground(tmp_path, unless={"all": [], "any": [["cfs:", "raw/"], ["data:", "raw/"]]})
    (tmp_path / "cfs" / "raw" / "x").unlink()
    (tmp_path / "data" / "raw" / "d" / "y").unlink()
    ground.later()
    assert made(ground.pass_()) == ["remove"]


def test_a_place_that_cannot_be_looked_into_verifies_nothing(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    del ground.files["cfs:"]
    ground.later()
    assert why(ground.pass_()) == "cfs: cannot verify there yet: kept"


def test_a_place_whose_folder_is_away_is_neither_proof_nor_empty(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    (tmp_path / "cfs").rename(tmp_path / "away")
    ground.later()
    assert "No such file or directory: kept" in why(ground.pass_())
    (tmp_path / "away").rename(tmp_path / "cfs")
    (tmp_path / "spot").rename(tmp_path / "away")
    ground.later(3700)
    assert made(ground.pass_()) == ["keep"]
    assert ground.row.state == "refused"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda g: g.places.update(spot=replace(g.places["spot"], prune=False)), "spot is not marked `prune: true`"),
        (lambda g: g.places.pop("spot"), "spot is not in the site document"),
        (lambda g: g.files.pop("spot:"), "spot: nothing can be verified or removed there yet: kept"),
    ],
)
def test_a_place_that_may_not_be_pruned_is_not(tmp_path: Path, change: Callable[[Ground], object], words: str) -> None:
    ground = Ground(tmp_path)
    change(ground)
    ground.later()
    assert words in why(ground.pass_())
    assert "raw/x" in ground.there("spot")


def test_nothing_goes_while_the_run_goes_on(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    other = ground.lab.submit(Stage("long", f"seconds={30 * DAY}"))
    ground.lab.settle()
    row = ground.row._replace(key="of another run", run_id=other, state="waiting", due_at=ground.lab.clock())
    ground.lab.store.enrol_retention([row])
    ground.later(1)
    assert why(ground.pass_()) == f"run {other} goes on, and may still want it"


def test_what_a_newer_run_has_brought_to_the_same_path_is_kept_as_long_as_that_says(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.later(6 * DAY)
    newer = ground.row._replace(
        key="newer", run_id="newer", created_at=ground.lab.clock(), due_at=ground.lab.clock() + micros(7 * DAY)
    )
    ground.lab.store.enrol_retention([newer])
    ground.later(2 * DAY)
    outcomes = ground.pass_()
    assert "run newer has brought there anew what it keeps for longer" in why(outcomes)
    assert {row.due_at for row in ground.lab.store.retention()} == {newer.due_at}


def test_what_was_changed_since_it_was_brought_is_kept(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    files = json.dumps([["x", 3, "0" * 64], ["d/y", 3, "1" * 64]])
    ground.lab.store.enrol_retention([ground.row._replace(key="d", files=files, due_at=ground.lab.clock())])
    assert "d/y at spot:raw/ is not what was brought there: somebody has changed it since" in why(ground.pass_())


# -- paths -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../cfs/raw/", "/etc/", "raw/../../cfs/raw/x", ".."])
def test_no_path_leads_out_of_a_place(tmp_path: Path, path: str) -> None:
    ground = Ground(tmp_path)
    ground.lab.store.enrol_retention([ground.row._replace(key="evil", path=path, due_at=1)])
    outcomes = list(ground.retention().run())
    assert made(outcomes) == ["keep"]
    assert ground.there("cfs") == ["raw", "raw/d", "raw/d/y", "raw/x"]


def test_a_link_that_leads_out_is_neither_followed_nor_emptied(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"p")
    (tmp_path / "spot" / "raw" / "link").symlink_to(outside)
    (tmp_path / "cfs" / "raw" / "link").symlink_to(outside)
    ground.later()
    assert made(ground.pass_()) == ["remove"]
    assert (outside / "precious").read_bytes() == b"p"
    with pytest.raises(UnsafePath):
        ground.files["spot:"].remove(["raw/link/precious"])


def test_at_a_site_only_the_folders_of_attempts_are_ours(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.lab.store.enrol_retention([ground.row._replace(key="spool", side="nersc", path="spool/", due_at=1)])
    assert "spool/ is not below runs/" in why(list(ground.retention().run()))


# -- two at once, and half of one --------------------------------------------------------------------------------


class Slow:
    """Files of a place; `before` is called before each call."""

    def __init__(self, behind: PlaceFiles, before: Callable[[str], None]) -> None:
        self._behind, self._before = behind, before

    def list(self, path: str, *, recursive: bool = False) -> Any:
        self._before("list")
        return self._behind.list(path, recursive=recursive)

    def digests(self, paths: Sequence[str]) -> Any:
        self._before("digests")
        return self._behind.digests(paths)

    def remove(self, paths: Sequence[str]) -> None:
        self._before("remove")
        self._behind.remove(paths)


def test_two_passes_at_once_remove_once(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.later()
    removed: list[str] = []
    inner: list[Outcome] = []

    def before(verb: str) -> None:
        if verb == "remove":
            removed.append(verb)
            if len(removed) == 1:
                inner.extend(ground.pass_())

    ground.files["spot:"] = Slow(ground.files["spot:"], before)
    assert made(ground.pass_()) == ["remove"]
    assert (inner, removed) == ([], ["remove"])
    assert len(ground.removals()) == 1


def test_while_one_copy_is_removed_the_one_that_proves_it_is_not_touched(tmp_path: Path) -> None:
    """Each would be the other's proof: only one of two passes may be at work."""
    ground = Ground(tmp_path, unless={"all": [], "any": [["cfs:", "raw/"]]})
    back = json.dumps({"all": [], "any": [["spot:", "raw/"]]})
    ground.lab.store.enrol_retention([ground.row._replace(key="back", side="cfs:", unless=back)])
    ground.later()
    inner: list[Outcome] = []

    def before(verb: str) -> None:
        if verb == "remove" and not inner:
            inner.extend(ground.pass_())

    for side in ("spot:", "cfs:"):
        ground.files[side] = Slow(ground.files[side], before)
    outcomes = ground.pass_()
    assert inner == []
    assert sorted(made(outcomes)) == ["keep", "remove"]
    assert ["raw/x" in ground.there(place) for place in ("spot", "cfs")].count(True) == 1


def test_a_pass_that_dies_half_way_is_done_again_and_told_once(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.later()

    class Killed(BaseException):
        pass

    def half(verb: str) -> None:
        if verb == "remove":
            (tmp_path / "spot" / "raw" / "x").unlink()
            raise Killed

    honest = ground.files["spot:"]
    ground.files["spot:"] = Slow(honest, half)
    with pytest.raises(Killed):
        ground.pass_()
    assert ground.row.state == "removing"
    ground.files["spot:"] = honest
    assert ground.pass_() == []
    ground.later(CLAIM_SECONDS + 1)
    assert made(ground.pass_()) == ["remove"]
    assert ground.there("spot") == []
    assert len(ground.removals()) == 1


def test_a_pass_that_stood_still_for_too_long_removes_nothing_any_more(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.later()
    taken: list[Outcome] = []

    def before(verb: str) -> None:
        if verb == "digests" and not taken:
            taken.append(None)  # type: ignore[arg-type]
            ground.later(CLAIM_SECONDS + 1)
            (tmp_path / "cfs" / "raw" / "x").unlink()
            taken.extend(ground.pass_())

    ground.files["spot:"] = Slow(ground.files["spot:"], before)
    assert ground.pass_() == []
    assert made(taken[1:]) == ["keep"]
    assert "raw/x" in ground.there("spot")


def test_an_error_of_the_place_is_written_down_and_tried_again(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.later()

    def away(verb: str) -> None:
        if verb == "remove":
            raise SiteUnreachable("the disk is away")

    ground.files["spot:"] = Slow(ground.files["spot:"], away)
    assert made(ground.pass_()) == ["keep"]
    assert (ground.row.state, ground.row.reason) == ("refused", "spot:: the disk is away")


# -- folders of attempts ---------------------------------------------------------------------------------------


class Ended:
    """A run with a product, delivered or not, at a site that keeps folders for a while."""

    def __init__(self, tmp_path: Path, *stages: Stage, **keep: float) -> None:
        self.lab = Lab(site("nersc", **keep), places=["cfs"])
        self.run_id = self.lab.submit(*stages)
        self.state = self.lab.finish(self.run_id)
        (tmp_path / "cfs").mkdir(exist_ok=True)
        self.tmp_path = tmp_path
        for path, blob in self.lab.world.place("cfs:").below("r") if self.lab.lies("cfs:r/a") else ():
            target = tmp_path / "cfs" / "r" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(blob.whole())

    def pass_(self, seconds: float) -> list[Outcome]:
        self.lab.clock.advance(seconds)
        files = {**self.lab.sites, "cfs:": FolderPlace("cfs:", self.tmp_path / "cfs")}
        return list(
            Retention(
                store=self.lab.store,
                configs=self.lab.configs,
                places=self.lab.places,
                files=files,
                clock=self.lab.clock,
            ).run()
        )

    def left(self) -> list[str]:
        return [path for path, _ in self.lab.sites["nersc"].model.disk.files_below("runs")]


MAKE = Stage("make", "seconds=5 outputs=rec/a:10", outputs=["rec/"])
DELIVER = Stage("make/deliver", copies=[("make/rec/", "cfs:r/")])


def test_the_folder_of_an_attempt_goes_when_what_it_left_was_delivered(tmp_path: Path) -> None:
    ended = Ended(tmp_path, MAKE, DELIVER, keep_attempts=3 * DAY)
    assert made(ended.pass_(2 * DAY)) == []
    assert [row.side for row in ended.lab.store.retention()] == ["nersc"]
    assert made(ended.pass_(2 * DAY)) == ["remove"]
    assert ended.left() == []
    (event,) = [e for e in ended.lab.store.events("site:nersc") if e.kind == "removed"]
    assert json.loads(event.data)["path"].startswith(f"runs/{ended.run_id}/make/a1/")


def test_a_product_that_lies_nowhere_else_is_kept(tmp_path: Path) -> None:
    ended = Ended(tmp_path, MAKE, keep_attempts=3 * DAY)
    outcomes = ended.pass_(4 * DAY)
    assert why(outcomes) == "no other good copy of rec/a was found"
    assert ended.left()


def test_a_delivery_that_was_damaged_since_is_no_copy(tmp_path: Path) -> None:
    ended = Ended(tmp_path, MAKE, DELIVER, keep_attempts=3 * DAY)
    (tmp_path / "cfs" / "r" / "a").write_bytes(b"0123456789")
    assert why(ended.pass_(4 * DAY)) == "no other good copy of rec/a was found"


def test_failed_runs_are_kept_as_long_as_the_site_says_for_them(tmp_path: Path) -> None:
    ended = Ended(tmp_path, Stage("bad", "seconds=5 exit=3"), keep_attempts=3 * DAY, keep_failed=14 * DAY)
    assert ended.state == "FAILED"
    assert made(ended.pass_(10 * DAY)) == []
    assert made(ended.pass_(5 * DAY)) == ["remove"]


def test_a_run_that_was_retried_is_counted_from_its_new_end(tmp_path: Path) -> None:
    ended = Ended(tmp_path, Stage("bad", "seconds=5 exit=3"), keep_failed=14 * DAY)
    assert made(ended.pass_(13 * DAY)) == []
    ended.lab.command(ended.run_id, "retry", "bad")
    ended.lab.finish(ended.run_id, step=60)
    ended.lab.run_for(120)
    outcomes = ended.pass_(2 * DAY)
    assert made(outcomes) == ["keep"]
    assert "has ended later than it had, and is FAILED" in why(outcomes)
    assert made(ended.pass_(13 * DAY)) == ["remove", "remove"]


def test_a_site_that_says_nothing_keeps_everything(tmp_path: Path) -> None:
    ended = Ended(tmp_path, MAKE, DELIVER)
    assert made(ended.pass_(400 * DAY)) == []
    assert ended.lab.store.retention() == []


def test_a_declared_keep_of_an_attempt_removes_its_own_path_alone(tmp_path: Path) -> None:
    wish = {"side": "", "path": "rec/", "after": DAY, "entry": 0, "all": [["cfs:", "r/"]], "any": [["cfs:", "r/"]]}
    ended = Ended(tmp_path, MAKE, replace(DELIVER, keep=[wish]))
    assert made(ended.pass_(2 * DAY)) == ["remove"]
    assert ended.left()
    assert not [path for path in ended.left() if "/rec/" in path]


def test_of_a_failed_run_the_attempts_own_files_stay_for_a_retry(tmp_path: Path) -> None:
    wish = {"side": "", "path": "rec/", "after": DAY, "entry": 0, "all": [["cfs:", "r/"]], "any": [["cfs:", "r/"]]}
    bad = Stage("bad", "seconds=5 exit=3", inputs=[("rec/", "make")])
    ended = Ended(tmp_path, MAKE, replace(DELIVER, keep=[wish]), bad)
    assert ended.state == "FAILED"
    assert "has failed and may be retried" in why(ended.pass_(2 * DAY))


# -- who does it -------------------------------------------------------------------------------------------------


def test_a_keeper_makes_one_pass_at_a_time_and_survives_what_goes_wrong(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.later()
    now, begun, go_on = [0.0], threading.Event(), threading.Event()

    def before(verb: str) -> None:
        begun.set()
        assert go_on.wait(10)
        raise RuntimeError("a fault of ours")

    ground.files["spot:"] = Slow(ground.files["spot:"], before)
    keeper = Keeper(ground.retention(), elapsed=lambda: now[0])
    keeper.tick()
    assert not begun.is_set()
    now[0] = 61.0
    keeper.tick()
    assert begun.wait(10)
    now[0] = 122.0
    thread = keeper._thread
    keeper.tick()
    assert keeper._thread is thread
    go_on.set()
    assert thread is not None
    thread.join(10)
    assert "raw/x" in ground.there("spot")


def test_each_kind_of_place_can_be_looked_into(tmp_path: Path) -> None:
    folder = PlaceConfig(name="d", path=str(tmp_path))
    assert isinstance(make_place(PlaceSetup(config=folder, clock=lambda: 0)), FolderPlace)
    web = PlaceConfig(name="w", url="https://example.org")
    assert isinstance(make_place(PlaceSetup(config=web, clock=lambda: 0)), UrlPlace)
    shelf = PlaceConfig(name="s", collection="44ae904c-0000-4000-8000-000000000001")
    assert isinstance(make_place(PlaceSetup(config=shelf, clock=lambda: 0)), CollectionFiles)
