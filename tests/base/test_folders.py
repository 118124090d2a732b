"""Files are looked up one by one: the working bench first, then what is shipped."""

import pytest

from rramlab.base.errors import DataError, UsageError
from rramlab.base.folders import bench_file, find, listing, shipped


def test_a_shipped_protocol_is_found_from_anywhere(tmp_path):
    found = find(tmp_path, "protocols", "electroform")
    assert found.path == shipped().path / "protocols" / "electroform.yaml"
    assert found.origin == shipped().origin


def test_the_working_bench_comes_first(tmp_path):
    (tmp_path / "protocols").mkdir()
    mine = tmp_path / "protocols" / "electroform.yaml"
    mine.write_text("name: mine\n", encoding="utf-8")
    for name in ("electroform", "electroform.yaml"):
        assert find(tmp_path, "protocols", name).path.samefile(mine)
    names = listing(tmp_path, "protocols")
    assert names["electroform"].path.samefile(mine)
    assert names["prune"].origin == shipped().origin


def test_an_unknown_name_lists_what_exists(tmp_path):
    with pytest.raises(UsageError, match=r"electrofrom.*known: .*electroform"):
        find(tmp_path, "protocols", "electrofrom")


def test_a_folder_without_a_bench_is_served_by_the_shipped_one(tmp_path):
    located, root = bench_file(tmp_path)
    assert located.path == shipped().path / "bench.yaml"
    assert root == tmp_path.resolve()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        bench_file(tmp_path / "nowhere")
