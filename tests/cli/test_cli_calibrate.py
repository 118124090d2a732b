"""``rramlab calibrate`` and ``rramlab run --fraction``, as a technician would type them."""

import pytest

DIE = "sim-0001"


def test_a_ramp_gives_a_record_and_the_record_the_voltage_for_a_share(rramlab, tmp_path):
    rramlab("init", tmp_path)
    missing = rramlab("run", "electroform", "--fraction", "0.5", "--arm", DIE)
    assert missing.exit_code == 1
    assert "rramlab calibrate forming" in missing.stderr
    found = rramlab("calibrate", "forming", "--arm", DIE, "--json")
    assert found.exit_code == 0
    assert abs(found.document["mean"]["value"] - 3.433) < 0.03
    shown = rramlab("calibrate", "show", "--json").document["forming"]
    assert [each["record"] for each in shown] == [found.document["record"]]
    formed = rramlab("run", "electroform", "--fraction", "0.5", "--set", "cells=rows 0-63", "--arm", DIE, "--json")
    assert formed.exit_code == 0
    assert abs(formed.document["checks"][-1]["formed_fraction"] - 0.5) < 0.05


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["read-array", "--fraction", "0.5"], "has no 'voltage'"),
        (["electroform", "--fraction", "0.5", "--set", "voltage=3.4V"], "one of the two"),
        (["electroform", "--fraction", "1.5"], "0.01 to 0.99"),
    ],
)
def test_a_share_that_makes_no_sense_is_refused(rramlab, tmp_path, words, hint):
    rramlab("init", tmp_path)
    answer = rramlab("run", *words)
    assert answer.exit_code == 2
    assert hint in answer.stderr


def test_a_share_at_another_width_than_that_of_the_record_is_refused(rramlab, tmp_path):
    rramlab("init", tmp_path)
    rramlab("calibrate", "forming", "--arm", DIE)
    answer = rramlab("run", "electroform", "--fraction", "0.5", "--set", "width=10us", "--arm", DIE)
    assert answer.exit_code == 2
    assert "measured at 1 us" in answer.stderr
