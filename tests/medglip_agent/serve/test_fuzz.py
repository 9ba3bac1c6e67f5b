"""500 crooked requests and files: refused in words, without a traceback, with nothing left behind."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from benchmarks.coded_pictures import QUESTION, coded_picture, data_url, user_message
from grounding.probe import Limits
from medglip_agent.agent import MedGLIPAgent
from medglip_agent.serve.application import Settings, build_app
from medglip_agent.serve.lane import LaneLimits

pytestmark = pytest.mark.slow
CASES = 250
LIMITS = Limits(max_bytes=1 << 20, max_pixels=1 << 20, max_frames=50, max_unpacked_bytes=8 << 20)
REFUSALS = {400, 404, 413, 415}
ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        2**70,
        1e308,
        "",
        "x" * 5000,
        "\0",
        "\u202e",
        [],
        {},
        [[[]]],
        {"url": 3},
        "../../etc",
    ),
    *(
        "data:",
        "data:image/png;base64,",
        "data:text/html;base64,PGI+",
        "http://169.254.169.254/",
        "<|im_end|>",
    ),
)


def encoded(kind: str, pages: int = 1) -> bytes:
    out = io.BytesIO()
    first, *others = [Image.fromarray(np.arange(1200, dtype=np.uint8).reshape(30, 40))] * pages
    more: dict[str, Any] = {"save_all": True, "append_images": others} if others else {}
    first.save(out, kind, **more)
    return out.getvalue()


def dicom() -> bytes:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = SecondaryCaptureImageStorage, generate_uid(), "CT"
    data.Rows, data.Columns, data.NumberOfFrames, data.SamplesPerPixel = 30, 40, 2, 1
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation, data.PhotometricInterpretation = 15, 1, "MONOCHROME2"
    data.RescaleSlope, data.RescaleIntercept, data.WindowCenter, data.WindowWidth = 1, -1024, 40, 400
    data.PixelData = np.arange(2400, dtype=np.int16).tobytes()
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    return out.getvalue()


def nifti() -> bytes:
    import nibabel as nib

    volume = np.arange(6 * 7 * 5, dtype=np.int16).reshape(6, 7, 5)
    return bytes(nib.Nifti1Image(volume, np.eye(4)).to_bytes())


def seeds() -> list[bytes]:
    rasters = [encoded("PNG"), encoded("JPEG"), encoded("BMP"), encoded("TIFF", 3)]
    return [*rasters, dicom(), nifti(), gzip.compress(nifti())]


def mangled(data: bytes, chance: random.Random) -> bytes:
    """Change, cut, repeat or drop bytes, headers more often than the rest."""
    crooked = bytearray(data)
    for _ in range(chance.choice((1, 2, 8, 40))):
        if len(crooked) < 2:
            break
        place = chance.randrange(chance.choice((min(400, len(crooked)), len(crooked))))
        match chance.randrange(6):
            case 0:
                crooked[place] = chance.randrange(256)
            case 1:
                crooked[place] ^= 1 << chance.randrange(8)
            case 2:
                crooked[place : place + 4] = chance.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"))
            case 3:
                del crooked[place : place + chance.randrange(1, 9)]
            case 4:
                crooked[place:place] = crooked[place : place + chance.randrange(1, 60)]
            case _:
                del crooked[max(1, len(crooked) - chance.randrange(1, 300)) :]
    return bytes(crooked)


def request(data: bytes, **more: Any) -> dict[str, Any]:
    return {"model": "medglip", "messages": [user_message(QUESTION, data_url(data))], **more}


def twisted(chance: random.Random) -> Any:
    """Return a good request with odd values at some places."""
    body: Any = request(coded_picture(9), image_options={"modality": "CR", "frame": 0, "window": [40, 400]})
    body["messages"] = [*body["messages"], {"role": "assistant", "content": "left"}, user_message("Why?")]
    for _ in range(chance.randrange(1, 4)):
        place, parent = body, None
        while isinstance(place, (dict, list)) and place and (parent is None or chance.random() < 0.7):
            parent, key = place, chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
            place = place[key]
        if parent is not None:
            parent[key] = chance.choice(ODD)
    return body


@pytest.fixture
def client(agent: MedGLIPAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The server, in an empty folder that also is its temporary one; both are empty afterwards."""
    (tmp_path / "here").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    settings = Settings(limits=LIMITS, lane=LaneLimits(run_s=60))
    with TestClient(build_app(agent, settings), raise_server_exceptions=False) as talk:
        yield talk
    assert not [path for path in tmp_path.rglob("*") if path.name not in ("here", "temporary")]


def check(reply: Any, sent: Any) -> None:
    text = reply.text
    assert reply.status_code in {200, *REFUSALS}, (reply.status_code, text, sent)
    assert "Traceback" not in text and ".py" not in text and "site-packages" not in text, (text, sent)
    if reply.status_code != 200:
        assert len(reply.json()["error"]["message"]) > 10


@pytest.mark.parametrize("seed", range(5))
def test_crooked_files(client: TestClient, seed: int) -> None:
    chance = random.Random(seed)
    statuses = []
    for _ in range(CASES // 5):
        data = mangled(chance.choice(seeds()), chance)
        reply = client.post("/v1/chat/completions", json=request(data, stream=chance.random() < 0.2))
        check(reply, data)
        statuses.append(reply.status_code)
    assert 400 in statuses


@pytest.mark.parametrize("seed", range(5))
def test_crooked_files_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    from medglip_agent.web.events import UserError, open_upload

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    chance = random.Random(200 + seed)
    refused = 0
    for _ in range(20):
        (tmp_path / "scan").write_bytes(mangled(chance.choice(seeds()), chance))
        try:
            open_upload(str(tmp_path / "scan"))
        except UserError as error:
            refused += 1
            assert str(error).startswith("This file cannot be shown. scan") and "Traceback" not in str(error)
    assert refused and not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("seed", range(5))
def test_crooked_bodies(client: TestClient, seed: int) -> None:
    chance = random.Random(100 + seed)
    for _ in range(CASES // 5):
        body = json.dumps(twisted(chance)).encode()
        if chance.random() < 0.4:
            body = mangled(body, chance)
        reply = client.post(
            "/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}
        )
        check(reply, body)
