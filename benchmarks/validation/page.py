"""The page: what is promised, what was measured, pass or fail."""

from rramlab.sim.models import WANG

HEAD = """\
# The simulated die and board against measurement and model

{passed} of {promises} promises are kept. Made by `python benchmarks/twin.py --data FOLDER`, where the folder holds
`measured/esgnn.npz`; without `--data` the comparison is with the quantiles and counts that `rramlab/sim/measured.py`
ships. `--only SECTION,…` runs parts, `--quick` a small sample elsewhere. Everything here is simulated but what is called
measured: 400 cells broken down by a ramp and 1,430 formed cells of the same lab's 40 nm macro
({source}, data of the authors' public repository). The figures' numbers are in
[twin.json](twin.json).
"""


def markdown(sections, titles):
    """Return the page of ``sections`` (documents by name, in order)."""
    promises = [each for section in sections.values() for each in section["promises"]]
    passed = sum(each["passed"] for each in promises)
    lines = [HEAD.format(passed=passed, promises=len(promises), source=WANG)]
    for name, section in sections.items():
        word = "Seed" if section["seeds"] == "1" else "Seeds"
        quick = ", a quick sample" if section["quick"] else ""
        lines += [f"## {titles[name]}", "", section["about"], ""]
        lines += [f"{word} {section['seeds']}{quick}; {section['seconds']:.1f} s.", ""]
        lines += ["| promise | promised | measured | |", "|---|---|---|---|"]
        for each in section["promises"]:
            verdict = "pass" if each["passed"] else "**fail**"
            lines += [f"| {each['what']} | {each['promised']} | {each['measured']} | {verdict} |"]
        lines += ["", *[f"* {each}" for each in section["findings"]], "", f"![{titles[name]}](twin/{name}.png)", ""]
    return "\n".join(lines)
