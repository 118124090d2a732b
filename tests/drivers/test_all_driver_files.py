"""Rules for every file in drivers/; exceptions are listed by name."""

import re

import pytest
from answering import SHIPPED, SMU_STEMS, STEMS, load

from rramlab.drivers.driverfile import load_driver, smu_class
from rramlab.drivers.smu.smufile import SmuFile, Sweep, Verb
from rramlab.drivers.smu.transcript import EVERY_CALL, replay

# Messages to the whole unit, whatever the channel.
WHOLE_UNIT = {
    "keysight-b2900": {"*RST", "*CLS", ":FORM ASC", ":FORM:ELEM:SENS VOLT,CURR,STAT", ":SYST:ERR?"},
    "keithley-2600": {
        "errorqueue.clear()", "format.data = format.ASCII", "format.asciiprecision = 7", "abort",
        "rramlab_levels = {{{levels:.9g}}}", "rramlab_levels[{index}] = {levels:.9g}", "print(errorqueue.next())",
    },
}  # fmt: skip


def messages(node):
    """Every message of the verbs below ``node``."""
    if isinstance(node, Verb):
        return list(node.send)
    if isinstance(node, Sweep):
        return [*node.prepare, node.levels.first, node.levels.further, *node.arm, *node.start]
    return [message for _, below in node if below is not None for message in messages(below)]


def test_the_four_families_and_the_board_are_there():
    assert {"keysight-b2900", "keithley-2400", "keithley-2450", "keithley-2600", "macro-40nm"} <= set(STEMS)


@pytest.mark.parametrize("stem", STEMS)
def test_a_file_loads_and_is_named_after_its_model(stem):
    driver = load_driver(SHIPPED, stem)
    assert driver.file.model == stem
    if not isinstance(driver.file, SmuFile):
        assert driver.file.table().geometry.cells


@pytest.mark.parametrize("stem", SMU_STEMS)
def test_the_transcript_shows_every_verb_and_matches(stem):
    driver = load_driver(SHIPPED, stem)
    assert replay(driver.file, driver.document, smu_class(driver.file)) >= len(EVERY_CALL)


@pytest.mark.parametrize("stem", SMU_STEMS)
def test_the_manual_is_cited_by_its_document_number(stem):
    assert re.search(r"\b[A-Z0-9]{4,}-[0-9]{2,5}", load(stem).manual)


@pytest.mark.parametrize("stem", SMU_STEMS)
def test_a_sweep_begins_and_ends_with_the_output_off(stem):
    file = load(stem)
    sweep = file.verbs.sweep
    assert sweep.prepare[0] == file.verbs.output.off.send[-1]
    assert re.search(r"OUTP:OFF|OUTP OFF|OFF:AUTO ON|CLE:AUTO ON|OUTPUT_OFF", sweep.ends_off)
    on = file.verbs.output.on.send[-1]
    before = (*sweep.prepare, *sweep.arm, sweep.levels.first, sweep.levels.further)
    assert not any(message.startswith(on) for message in before)
    assert not any(message.startswith(on) for message in sweep.start[1:])


@pytest.mark.parametrize("stem", SMU_STEMS)
def test_the_safe_state_switches_off_but_not_with_its_first_message(stem):
    file = load(stem)
    sent = file.verbs.safe_state.send
    assert file.verbs.output.off.send[-1] in sent[1:]


@pytest.mark.parametrize("stem", SMU_STEMS)
def test_nothing_but_the_output_and_a_sweep_switches_on(stem):
    file = load(stem)
    on = file.verbs.output.on.send[-1]
    quiet = file.verbs.model_copy(update={"output": file.verbs.output.off, "sweep": file.verbs.errors})
    assert not any(on in message for message in [*messages(quiet), *file.identity.send])


@pytest.mark.parametrize("stem", SMU_STEMS)
def test_an_identity_is_no_answer_to_anything_else(stem):
    """What resynchronises the conversation: it could otherwise be taken for the answer to the next question."""
    file = load(stem)
    answers = {call.call: [each.answer.strip() for each in call.exchange if each.answer] for call in file.transcript}
    assert re.fullmatch(file.identity.reply, answers["identify"][0], re.ASCII)
    for pattern in (file.verbs.errors.reply, file.verbs.output.state.reply):
        assert not re.fullmatch(pattern, answers["identify"][0], re.ASCII)
    for call, given in answers.items():
        for answer in given:
            assert call == "identify" or not re.fullmatch(file.identity.reply, answer, re.ASCII)


@pytest.mark.parametrize("stem", SMU_STEMS)
def test_every_message_names_the_channel_where_there_are_several(stem):
    file = load(stem)
    if len(file.channels) > 1:
        silent = {message for message in messages(file.verbs) if "{channel}" not in message}
        assert silent == WHOLE_UNIT[stem]
