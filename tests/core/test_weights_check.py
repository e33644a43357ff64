"""What a config needs and this machine lacks: all of it in one line, before any work."""

from __future__ import annotations

import pytest
from copies import VAE, fill

from x2c.core.errors import UserError
from x2c.core.resolve import resolve
from x2c.core.weights import WEIGHTS, check

pytestmark = pytest.mark.usefixtures("offline")

PAPER = ("kl_f8", "biomedclip", "alexnet", "radimagenet_resnet50", "i3d")


def test_everything_that_is_missing_is_named_at_once():
    with pytest.raises(UserError) as error:
        check(resolve("l1_lpips", "paper"))
    message = str(error.value)
    assert "\n" not in message and "HF_HUB_OFFLINE is set" in message and "python -m x2c.weights" in message
    for name in PAPER:
        assert f"{name} (--{WEIGHTS[name].option}={WEIGHTS[name].kind})" in message
    with pytest.raises(UserError, match="weights: ") as error:
        check(resolve("l1", "paper"))
    assert "radimagenet" not in str(error.value)


def test_a_scale_of_stand_ins_needs_nothing():
    check(resolve("full", "cpu"))


def test_options_are_those_of_the_slot_that_lacks_weights():
    config = resolve("l1_lpips", "cpu", 0, ["loss.lpips.network=lpips_alex", "encoder.name=clip_l14"])
    with pytest.raises(
        UserError, match=r"clip_l14 \(--encoder\.source=FOLDER\), alexnet \(--loss\.lpips\.source=FILE\)"
    ):
        check(config)


def test_a_path_that_is_wrong_is_named():
    config = resolve("l1", "cpu", 0, ["features.name=i3d", "features.source=/nowhere/i3d.pt"])
    with pytest.raises(
        UserError, match=r"^weights: i3d \(--features\.source=FILE; no such file: /nowhere/i3d\.pt\): not on"
    ):
        check(config)


def test_what_is_there_is_not_missing_and_is_checked(shelf, published):
    config = resolve("l1", "cpu", 0, ["autoencoder.name=kl_f8"])
    folder = fill(shelf / "kl_f8")
    check(config)
    (folder / VAE).write_bytes(b"spoilt")
    with pytest.raises(UserError, match=rf"{VAE}: expected SHA-256"):
        check(config)


@pytest.mark.parametrize("answering", [True, False])
def test_online_the_hub_is_asked_once(answering, monkeypatch):
    asked: list[float] = []

    class Session:
        def head(self, url: str, timeout: float):
            asked.append(timeout)
            if not answering:
                raise ConnectionError
            return type("Response", (), {"status_code": 200})

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.get_session", Session)
    for _ in range(2):
        with pytest.raises(UserError) as error:
            check(resolve("l1_lpips", "paper"))
    assert len(asked) == 1 and asked[0] <= 3
    # Nobody can fetch these two: they have no hub.
    assert "i3d (" in str(error.value) and "radimagenet_resnet50 (" in str(error.value)
    assert ("kl_f8 (" in str(error.value)) == ("the hub does not answer" in str(error.value)) == (not answering)
