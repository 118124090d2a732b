"""A window that is not met says what its protocol has to say about it, and nothing of protocols by itself."""

import pytest
from workbench import forming_plan

from rramlab.base.errors import OutOfLimits
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ExpectStep, ReadStep, Window


@pytest.fixture
def session(small_bench):
    with small_bench.open() as opened:
        yield opened


def test_the_hint_of_a_failed_expectation_is_said(session):
    for hint, said in (("Look at the lamp.", True), ("", False)):
        window = Window(formed_fraction=(1, 1), hint=hint)
        with pytest.raises(OutOfLimits) as caught:
            session.run(Plan(name="p", steps=(ReadStep(), ExpectStep(window=window))))
        assert ("Look at the lamp." in str(caught.value)) == said
        assert "--set" not in str(caught.value)


def test_the_hint_of_a_failed_pilot_block_is_said(session):
    plan = forming_plan(gate=0.8)
    contact, form, *rest = plan.steps
    form = form.model_copy(update={"pilot": form.pilot.model_copy(update={"hint": "Raise the gate."})})
    with pytest.raises(OutOfLimits, match=r"pilot block.*Raise the gate\."):
        session.run(plan.model_copy(update={"steps": (contact, form, *rest)}), arm="small-1")


def test_the_shipped_forming_protocol_says_where_voltage_may_be_lost(session):
    with pytest.raises(OutOfLimits, match="--set lowest="):
        session.run("electroform", {"gate": "0.8 V"}, arm="small-1")
