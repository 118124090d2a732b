"""What files, folders and instruments say is text: brackets are no markup, colons no emoji, escapes steer no terminal."""

import re

import pytest
from table import called
from workbench import SmallBench

from rramlab.base.folders import shipped
from rramlab.cli.output import Output, console, styled

HOSTILE = [
    "[/red]",
    "[bold]",
    "[link=x]y[/link]",
    ":ON:",
    ":warning:",
    "[/]",
    "\\[",
    "[red",
    "{x}",
    "%s",
    "[blink]a[/blink]",
]
NAME = "".join(each for each in "[/red][bold]:ON:" if each != "/")  # as a folder can be called


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A bench whose folder, name, protocol and unit are called what rich would take for markup."""
    folder = tmp_path / NAME
    SmallBench(folder).write()
    text = (folder / "bench.yaml").read_text().replace("name: small bench", "name: '[/red]:ON:[bold]'")
    (folder / "bench.yaml").write_text(text + "smus:\n  - {name: unit, driver: odd, address: simulated}\n")
    unit = (shipped().path / "drivers" / "keysight-b2900.yaml").read_text()
    (folder / "drivers" / "odd.yaml").write_text(
        re.sub(r"^description: .*$", "description: '[/red]:ON:[bold]'", unit, flags=re.MULTILINE)
    )
    (folder / "protocols").mkdir()
    (folder / "protocols" / "odd.yaml").write_text(
        "name: odd\ndescription: '[/red]:ON:[bold]'\nparameters:\n"
        "  cells: {type: region, default: row 0, description: '[bold]:ON:'}\n"
        "steps:\n  - read: {cells: '${cells}'}\n"
    )
    (folder / "protocols" / "broken.yaml").write_text("name: '[/red]:ON:'\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("bench show", "[/red]:ON:[bold]"),
        ("bench check", "[/red]:ON:[bold]"),
        ("drivers show odd", "[/red]:ON:[bold]"),
        ("protocols show odd", "[bold]:ON:"),
        ("protocols list", "[/red]:ON:[bold]"),
        ("protocols check odd", "odd"),
        ("protocols check broken", "[/red]:ON:"),
        ("run odd --dry-run", "odd"),
        ("run odd", "odd"),
        ("run [/red]:ON:", "[/red]:ON:"),
        ("run odd --set [/red]=:ON:", "[/red]"),
        ("run read-array --set cells=[/red]:ON:", "[/red]:ON:"),
        ("run read-array --arm [/red]:ON:", "[/red]:ON:"),
        ("run read-array --die [/red]:ON:", "[/red]:ON:"),
        ("runs show [/red]:ON:", "[/red]:ON:"),
        ("runs list --since [/red]:ON:", "[/red]:ON:"),
        ("runs export [/red]:ON: --output x", "[/red]:ON:"),
        ("dies show [/red]:ON:", "[/red]:ON:"),
        ("dies wear [/red]:ON:", "[/red]:ON:"),
        ("sim new [/red]:ON:", "[/red]:ON:"),
        ("sim age [/red]:ON: --for 1s", "[/red]:ON:"),
        ("sim age small-1 --for [/red]:ON:", "[/red]:ON:"),
        ("sim info [/red]:ON:", "[/red]:ON:"),
        ("calibrate show [/red]:ON:", "[/red]:ON:"),
        ("calibrate compare [/red]:ON: x", "[/red]:ON:"),
        ("bench trace [/red]:ON:", "[/red]:ON:"),
        ("place [/red]:ON:", "[/red]:ON:"),
        ("train [/red]:ON:", "[/red]:ON:"),
        ("deploy [/red]:ON:", "[/red]:ON:"),
        ("evaluate [/red]:ON:", "[/red]:ON:"),
        ("init [/red]:ON:", "[/red]:ON:"),
        ("report [/red]:ON:", "[/red]:ON:"),
        ("map --bench [/red]:ON:", "[/red]:ON:"),
        ("estop --bench [/red]:ON:", "[/red]:ON:"),
        ("data list --data [/red]:ON:", "[/red]:ON:"),
        ("nonsense[/red]:ON:", "[/red]:ON:"),
    ],
)
def test_what_a_person_calls_things_is_printed_as_it_is(lab, words, said):
    done = called(words.split())
    text = re.sub(r"[\s│|]", "", (done.out + done.err).decode())
    assert said in text
    assert "defect" not in text
    assert "Traceback" not in text


def test_a_folder_is_called_what_it_is_called(lab):
    for words in (
        ["bench", "show"],
        ["init", "new"],
        ["runs", "list"],
        ["dies", "list"],
        ["sim", "info"],
        ["data", "list"],
    ):
        done = called(words)
        assert done.code == 0, done.err
        assert "defect" not in done.err.decode()
    assert called(["run", "odd"]).code == 0
    assert NAME in re.sub(r"[\s│]", "", called(["runs", "show", "last"]).out.decode())


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("text", [*HOSTILE, "\x1b[31m"])
def test_only_what_is_styled_has_a_style(capsys, monkeypatch, text, terminal):
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    else:
        monkeypatch.delenv("FORCE_COLOR", raising=False)
    out = Output(json=False)
    out.say(text)
    table = out.table(text, title=text)
    table.add_row(text)
    out.say(table)
    said = capsys.readouterr().out
    shown = text.replace("\x1b", "\\x1b")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert plain.count(shown) == 4
    first = said.splitlines()[0]
    assert first == shown
    out.say("a ", styled(text), " b")
    styled_line = capsys.readouterr().out.rstrip("\n")
    assert styled_line == (f"a \x1b[1m{shown}\x1b[0m b" if terminal else f"a {shown} b")


def test_no_command_has_a_console_or_an_echo_of_its_own():
    """One place decides how text is printed."""
    folder = shipped().path / "rramlab" / "cli"
    if not folder.is_dir():
        pytest.skip("the package is installed")
    for path in sorted(folder.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path.name == "output.py":
            continue
        assert "rich.markup" not in text, path
        assert not re.search(r"Console\(|\bprint\(|typer\.(secho|prompt|confirm)|(?<!typer\.)\becho\(", text), path
        assert not re.search(r"\[/?(bold|red|green|dim|cyan|yellow|)\]", re.sub(r"\[\]|\w\[.*?\]", "", text)), path
        for column in re.findall(r"TextColumn\([^)]*\)", text):
            assert "markup=False" in column, path


def test_the_console_of_progress_takes_text_for_text(capsys):
    console(stderr=True).print("[red]x[/red] :ON:")
    assert capsys.readouterr().err == "[red]x[/red] :ON:\n"
