import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.data.readers.json_stream import MAX_DEPTH, array_items, object_items
from grounding.data.records import UnitError


def write(path, content):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(data)
    return path


def test_items_come_in_the_order_of_the_file(tmp_path):
    path = write(tmp_path / "a.json", {"b.png": ["m1", "m2"], "a.png": [], "x": {"y": 2.5}})
    assert list(object_items(path)) == [("b.png", ["m1", "m2"]), ("a.png", []), ("x", {"y": 2.5})]
    assert isinstance(dict(object_items(path))["x"]["y"], float)


def test_inner_objects_and_arrays(tmp_path):
    path = write(tmp_path / "a.json", {"labels": {"0": "background"}, "training": [{"image": "a"}, 3]})
    assert list(object_items(path, "labels")) == [("0", "background")]
    assert list(array_items(path, "training")) == [{"image": "a"}, 3]
    assert list(array_items(path, "test")) == []


def test_only_what_is_asked_for_is_read(tmp_path):
    """The first items of an index come although its end is broken: it is never held as a whole."""
    items = ",".join(f'"image{number}": ["mask{number}"]' for number in range(2_000))
    path = write(tmp_path / "a.json", ("{" + items + ', "cut').encode())
    first = list(itertools.islice(object_items(path), 3))
    assert first == [(f"image{number}", [f"mask{number}"]) for number in range(3)]
    with pytest.raises(UnitError, match=r"a\.json: is no JSON, or truncated .*copy it again"):
        list(object_items(path))


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"a": [1', b"\0\0\0", b"\xff\xfe{}", b'{"a": NaN}', b"{}{}"]
)
def test_what_is_no_json_is_told_with_its_file(tmp_path, content):
    with pytest.raises(UnitError, match=r"a\.json: is no JSON, or truncated"):
        list(object_items(write(tmp_path / "a.json", content)))


def test_another_kind_of_json_is_told(tmp_path):
    path = write(tmp_path / "a.json", [{"a": 1}])
    with pytest.raises(UnitError, match=r"a\.json: expected an object \{\.\.\.\} in the file"):
        list(object_items(path))
    path = write(tmp_path / "b.json", {"training": {"a": 1}, "labels": 5})
    with pytest.raises(UnitError, match=r"b\.json: expected an array \[\.\.\.\] under 'training'"):
        list(array_items(path, "training"))
    with pytest.raises(UnitError, match=r"expected an object .* under 'labels'"):
        list(object_items(path, "labels"))


def test_missing_files_are_told(tmp_path):
    with pytest.raises(UnitError, match=r"a\.json: cannot be read \(No such file"):
        list(object_items(tmp_path / "a.json"))


def test_deep_nesting_is_refused_before_it_fills_the_memory(tmp_path):
    path = write(tmp_path / "a.json", b'{"a":' + b"[" * 200_000)
    with pytest.raises(UnitError, match=f"deeper than {MAX_DEPTH} levels"):
        list(object_items(path))


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=40) | st.text('{}[]":,\\1ae ', max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = write(tmp_path_factory.mktemp("json") / "a.json", content)
    for items in (object_items(path), object_items(path, "a"), array_items(path, "a")):
        try:
            list(items)
        except UnitError as error:
            assert "a.json" in str(error)
