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
    assert abs(found.document["sections"]["forming"]["mean"]["value"] - 3.433) < 0.03
    (shown,) = rramlab("calibrate", "show", "--json").document["records"]
    assert shown["path"] == found.document["records"]["die"]
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


def calibrated(rramlab, *words):
    found = rramlab("calibrate", *words, "--json")
    assert found.exit_code == 0, found.stderr
    return found.document


def test_a_board_is_calibrated_looked_at_and_used(rramlab, tmp_path):
    rramlab("init", tmp_path)
    before = rramlab("bench", "check", "--json").document["calibration"]
    assert before[0]["record"] is None
    assert "no calibration record" in before[0]["faults"][0]
    first = calibrated(rramlab, "dac")["records"]["board"]
    found = calibrated(rramlab, "adc", "--set", "step=10mV")
    assert set(found["sections"]) == {"adc"}
    assert found["records"]["board"] != first
    (check,) = rramlab("bench", "check", "--json").document["calibration"]
    assert check["faults"] == []
    assert found["records"]["board"].endswith(f"{check['record']}.yaml")

    listed = rramlab("calibrate", "history", "--json").document["history"]
    assert [each["new"] for each in listed] == [["dac"], ["adc"]]
    calibrated(rramlab, "dac")
    (one, two, three) = [each["id"] for each in rramlab("calibrate", "history", "--json").document["history"]]
    names = [row["name"] for row in rramlab("calibrate", "compare", one, three, "--json").document["values"]]
    assert "dac.gain" in names
    shown = rramlab("calibrate", "show", three)
    assert "gain 1.0" in shown.stdout
    assert "holds for 90 d" in shown.stdout

    run = rramlab("run", "read-array", "--set", "cells=rows 0-3", "--json").document["run"]
    answer = rramlab("calibrate", "apply", run, "--record", two, "--json")
    assert answer.document == {"run": run, "record": two, "blocks": 1}
    assert two in (tmp_path / "data/runs" / run / "run.json").read_text()
    assert (tmp_path / "data/runs" / run / f"calibration-{three}.yaml").exists()
    refused = rramlab("calibrate", "apply", run, "--record", one)
    assert refused.exit_code == 1
    assert "no section 'adc'" in refused.stderr


def test_all_of_it_leaves_out_what_a_virgin_die_cannot_give_and_says_so(rramlab, tmp_path):
    rramlab("init", tmp_path)
    answer = rramlab("calibrate", "all", "--json")
    assert answer.exit_code == 0, answer.stderr
    assert set(answer.document["sections"]) == {"dac", "adc"}
    assert set(answer.document["skipped"]) == {"noise", "linearity", "lines", "smu", "forming"}
    assert "--arm" in answer.document["skipped"]["forming"]
    assert "rramlab run electroform" in answer.document["skipped"]["noise"]


def test_a_bench_that_requires_a_calibration_lets_one_be_made(rramlab, tmp_path):
    rramlab("init", tmp_path)
    path = tmp_path / "bench.yaml"
    path.write_text(path.read_text().replace("calibration_policy: none", "calibration_policy: require"))
    refused = rramlab("run", "read-array", "--set", "cells=row 0")
    assert refused.exit_code == 3
    assert "rramlab calibrate all" in refused.stderr
    calibrated(rramlab, "dac")
    still = rramlab("run", "read-array", "--set", "cells=row 0")
    assert still.exit_code == 3
    assert "no section 'adc'" in still.stderr
    calibrated(rramlab, "adc", "--set", "step=10mV")
    assert rramlab("run", "read-array", "--set", "cells=row 0").exit_code == 0


@pytest.mark.filterwarnings("default")
def test_a_bench_that_warns_says_loudly_what_it_lacks(rramlab, tmp_path):
    rramlab("init", tmp_path)
    path = tmp_path / "bench.yaml"
    path.write_text(path.read_text().replace("calibration_policy: none", "calibration_policy: warn"))
    answer = rramlab("run", "read-array", "--set", "cells=row 0")
    assert answer.exit_code == 0
    assert "nominal figures" in answer.stderr


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["adc"], 1, "rramlab calibrate dac"),
        (["dac", "--set", "highest=9V"], 2, "at most 3.3 V"),
        (["dac", "--run", "nothing"], 1, "there is no run"),
        (["forming"], 3, "--arm"),
        (["forming", "--arm", "other"], 3, "other"),
        (["compare", "a", "b"], 1, "there is no record 'a'"),
        (["show", "nothing"], 1, "there is no record"),
        (["apply", "last"], 1, "there is no run"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_remedy(rramlab, tmp_path, words, code, hint):
    rramlab("init", tmp_path)
    answer = rramlab("calibrate", *words)
    assert answer.exit_code == code, answer.stderr
    assert hint in answer.stderr
