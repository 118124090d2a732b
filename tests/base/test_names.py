"""Names of new folders are such that the folder can be copied to any computer."""

import pytest

from rramlab.base.errors import UsageError
from rramlab.base.names import checked, fresh


@pytest.mark.parametrize("name", ["con", "NUL", "aux.json", "Com1", "lpt9.tar.gz", "die.", "a..."])
def test_what_windows_keeps_or_cuts_off_is_no_new_name_but_an_old_one_is_still_found(tmp_path, name):
    with pytest.raises(UsageError, match="Windows"):
        fresh(name, "die id", tmp_path)
    assert checked(name, "die id") == name


@pytest.mark.parametrize("name", ["console", "nullable", "com10", "auxiliary-1", "Die-1"])
def test_names_that_only_look_like_those_are_fine(tmp_path, name):
    assert fresh(name, "die id", tmp_path / "not there yet") == name


def test_a_name_that_differs_by_capitals_alone_is_refused(tmp_path):
    (tmp_path / "Die-1").mkdir()
    assert fresh("Die-1", "die id", tmp_path) == "Die-1"
    with pytest.raises(UsageError, match="'Die-1'"):
        fresh("die-1", "die id", tmp_path)
