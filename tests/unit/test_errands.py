"""What movers that carry in this process say of what none of them expected."""

from __future__ import annotations

from pathlib import Path

from connectors.errands import Errand, Errands
from connectors.model import Transfer, TransferItem, TransferState


def test_an_error_that_nobody_expected_names_its_kind_and_place_and_none_of_its_words() -> None:
    def carry(errand: Errand) -> None:
        raise KeyError("token=hunter2")

    errands = Errands(carry, name="s3", unfit=lambda _: "", reserved=())
    item = TransferItem(source="a", destination="b")
    errands.submit([Transfer(key="k", source_site="x", destination_site="y", items=(item,))])
    errands.close()
    found = errands.status(["k"])["k"]
    assert found.state is TransferState.FAILED
    assert found.reason.startswith(f"s3 broke off: KeyError at {Path(__file__).name}:")
    assert "hunter2" not in found.reason
