"""A session opens a file, steps through it, and forgets what was found when the picture changes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grounding.images import ImageError
from grounding.types import Regions
from medglip_agent.web.session import (
    FILE_WINDOW,
    Session,
    caption,
    change_view,
    kind_words,
    modality_choices,
    open_session,
)


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    path = tmp_path / "pages.tif"
    first, *rest = [Image.fromarray(np.full((8, 10), grey, dtype=np.uint8)) for grey in (10, 20, 30)]
    first.save(path, save_all=True, append_images=rest)
    return path


def test_open_shows_the_first_frame(pages: Path) -> None:
    session = open_session(pages, "Three pages", "US")
    assert session.frame_count == 3
    assert session.image.pixels[0, 0, 0] == 10
    assert session.modality == session.image.modality == "US"
    assert session.windows == ()
    expected = "Three pages · 10 x 8 px · ultrasound · frame 1 of 3 · left and right as in the picture"
    assert caption(session) == expected


def test_another_frame_forgets_the_regions(pages: Path) -> None:
    opened = open_session(pages)
    found = Session(**{**vars(opened), "regions": Regions.empty((8, 10)), "cited": (0,)})
    changed = change_view(found, 2, "nonsense", "")
    assert changed.image.pixels[0, 0, 0] == 30
    assert changed.regions is None and changed.cited == ()
    assert changed.window == FILE_WINDOW
    assert change_view(found, 99, "", "").frame == 2


def test_kind_of_image_can_be_told(pages: Path) -> None:
    changed = change_view(open_session(pages), 0, "", "OP")
    assert changed.image.modality == "OP"
    assert "eye fundus" in caption(changed)
    assert change_view(changed, 0, "", "").image.modality is None


def test_windows_are_offered_for_ct_only() -> None:
    data = pytest.importorskip("pydicom.data")
    ct = open_session(data.get_testdata_file("CT_small.dcm", download=False))
    assert "lung" in ct.windows
    lung = change_view(ct, 0, "lung", "CT")
    assert lung.image.window is not None and lung.image.window.width == 1500
    assert not np.array_equal(lung.image.pixels, ct.image.pixels)
    mr = open_session(data.get_testdata_file("MR_small.dcm", download=False))
    assert mr.windows == ()


def test_choices_begin_with_unknown_and_have_a_vocabulary() -> None:
    choices = modality_choices()
    assert choices[0] == ("not known", "")
    assert {"CR", "CT", "MR", "US", "OP", "SM", "DMS", "ES"} <= {code for _, code in choices}
    assert kind_words("CR") == "X-ray"
    assert kind_words("XX") == "XX"


def test_broken_file_is_an_image_error(tmp_path: Path) -> None:
    path = tmp_path / "notes.dcm"
    path.write_text("not a picture")
    with pytest.raises(ImageError, match=r"notes\.dcm"):
        open_session(path)
