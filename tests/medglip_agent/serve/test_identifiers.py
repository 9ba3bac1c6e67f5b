"""A DICOM file full of identifiers: none of them comes out anywhere, except in the SR that is asked for."""

from __future__ import annotations

import io
import json
import logging
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import anyio
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from benchmarks.coded_pictures import QUESTION, data_url, user_message
from medglip_agent import cli
from medglip_agent.agent import MedGLIPAgent
from medglip_agent.audit import AuditLog
from medglip_agent.exports import FORMATS, Result, SourceFrame, models_of, write_export
from medglip_agent.redact import log_safely
from medglip_agent.serve.application import Settings
from medglip_agent.trace import append_trace
from medglip_agent.uploads import image_from

TEXTS = (  # PN, LO, SH, LT, ST and UI: people, numbers, places, free text
    *("PatientName", "PatientID", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName"),
    *("PatientAddress", "PatientTelephoneNumbers", "PatientComments", "MilitaryRank", "EthnicGroup"),
    *("Occupation", "AdditionalPatientHistory", "PatientInsurancePlanCodeSequence", "IssuerOfPatientID"),
    *("MedicalRecordLocator", "RegionOfResidence", "PatientReligiousPreference", "ResponsiblePerson"),
    *("ResponsibleOrganization", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName"),
    *("ReferringPhysicianName", "ReferringPhysicianAddress", "PerformingPhysicianName", "OperatorsName"),
    *("NameOfPhysiciansReadingStudy", "PhysiciansOfRecord", "RequestingPhysician", "AccessionNumber"),
    *("StudyID", "StationName", "DeviceSerialNumber", "StudyDescription", "SeriesDescription"),
    *("ProtocolName", "ImageComments", "AdmissionID", "RequestedProcedureDescription", "PatientState"),
)
DATES = ("PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")


class Planted:
    """A DICOM file and every identifier in it."""

    def __init__(self) -> None:
        self.secrets: list[str] = []
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID, data.Modality = SecondaryCaptureImageStorage, "CR"
        for keyword in TEXTS:
            if not keyword.endswith("Sequence"):
                setattr(data, keyword, self.secret())
        for number, keyword in enumerate(DATES):
            setattr(data, keyword, self.keep(f"1947{number + 1:02}17"))
        for number, keyword in enumerate(UIDS):
            setattr(data, keyword, self.keep(f"1.2.826.0.1.3680043.8.{number + 77}.{number + 1}4242"))
        plan, inner = Dataset(), Dataset()
        inner.CodeMeaning, plan.PatientName = self.secret(), self.secret()
        plan.ReferencedPatientSequence = [inner]
        data.PatientInsurancePlanCodeSequence = data.RequestAttributesSequence = [plan]
        block = data.private_block(0x0011, "PLANTED", create=True)
        block.add_new(0x10, "LO", self.secret())
        block.add_new(0x11, "SQ", [inner])
        data.Rows, data.Columns, data.SamplesPerPixel = 30, 40, 1
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.PixelRepresentation, data.PhotometricInterpretation = 7, 0, "MONOCHROME2"
        data.PixelData = bytes([16]) * 1200
        out = io.BytesIO()
        data.save_as(out, enforce_file_format=True)
        self.data = out.getvalue()

    def secret(self) -> str:
        return self.keep(f"ZQ{len(self.secrets):02}XKW")

    def keep(self, value: str) -> str:
        self.secrets.append(value)
        return value

    def leaks(self, *outputs: bytes | str) -> list[str]:
        """Return what of the secrets stands in any output."""
        whole = b"\n".join(text.encode() if isinstance(text, str) else text for text in outputs)
        return [secret for secret in self.secrets if secret.encode() in whole]


@pytest.fixture(scope="module")
def planted() -> Planted:
    return Planted()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a server process would write to stderr."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = list(root.handlers), root.level
    root.handlers.clear()  # pytest's own are not to be closed
    with warnings.catch_warnings():
        log_safely(stream)
        yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def post(address: str, data: bytes, **more: Any) -> str:
    message = user_message(QUESTION, data_url(data, "application/dicom"))
    body = json.dumps({"model": "medglip", "messages": [message], **more}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/v1/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return str(reply.read().decode())
    except HTTPError as error:
        return str(error.read().decode())


def damaged(data: bytes) -> list[bytes]:
    """Variants that make readers complain, quoting what they read."""
    rows = data.index(b"\x28\x00\x10\x00US")
    window = b"\x28\x00\x50\x10DS\x08\x00ZQ01XKW "  # a number that is a secret
    frames = b"\x28\x00\x08\x00IS\x08\x00ZQ01XKW "
    return [
        data[:-900],
        data[:rows],
        data[: len(data) // 3],
        data[:rows] + frames + data[rows:],
        data[:rows] + data[rows:].replace(b"\x28\x00\x00\x01US", window + b"\x28\x00\x00\x01US", 1),
        data.replace(b"1.2.826.0.1.3680043.8.77", b"ZQ02XKW\xff\xfe.3680043.8.77"),
        data.replace(b"PN\x08\x00", b"UI\x08\x00").replace(b"LO\x08\x00", b"DS\x08\x00"),
        data.replace(b"SH\x08\x00", b"SQ\x08\x00"),
        data.replace(b"CS\x02\x00CR", b"CS\x02\x00Z\xe9"),
    ]


def test_the_file_holds_at_least_40(planted: Planted) -> None:
    assert len(set(planted.secrets)) >= 50
    assert planted.leaks(planted.data) == planted.secrets


def test_served_answers_errors_logs_and_audit(
    start: Callable[[Settings], str], planted: Planted, audit: AuditLog, log: io.StringIO
) -> None:
    address = start(Settings(audit=audit))
    answers = [post(address, planted.data), post(address, planted.data, stream=True)]
    assert all('"left code 16 [R1]."' in answer for answer in answers)
    errors = [post(address, data) for data in damaged(planted.data)]
    errors += [post(address, planted.data, image_options={"frame": 9})]
    assert sum('"error"' in error for error in errors) >= 4
    outputs = [*answers, *errors, audit.path.read_text(), log.getvalue()]
    assert "POST /v1/chat/completions 200" in log.getvalue()
    assert planted.leaks(*outputs) == []


def test_mcp(
    planted: Planted, agent: MedGLIPAgent, tmp_path: Path, audit: AuditLog, log: io.StringIO
) -> None:
    pytest.importorskip("mcp")
    from mcp.shared.memory import create_connected_server_and_client_session as connected

    from medglip_agent.mcp_server import Tools, build_server

    for number, data in enumerate([planted.data, *damaged(planted.data)]):
        (tmp_path / f"{number}.dcm").write_bytes(data)

    async def run() -> list[str]:
        told = []
        async with connected(build_server(Tools(agent, tmp_path, audit=audit))) as session:
            for number in range(len(damaged(planted.data)) + 1):
                arguments = {"path": f"{number}.dcm", "question": QUESTION}
                told.append((await session.call_tool("ask", arguments)).model_dump_json())
            told.append((await session.call_tool("report", {"path": "0.dcm"})).model_dump_json())
            found = await session.call_tool("ground", {"path": "0.dcm", "phrases": ["left lung"]})
        return [*told, found.model_dump_json()]

    outputs = anyio.run(run)
    assert "left code 16" in outputs[0]
    assert planted.leaks(*outputs, audit.path.read_text(), log.getvalue()) == []


def test_exports_and_traces(planted: Planted, agent: MedGLIPAgent, tmp_path: Path) -> None:
    source = tmp_path / "source.dcm"
    source.write_bytes(planted.data)
    from grounding.probe import Limits

    image = image_from(planted.data, Limits())
    out = tmp_path / "out"
    out.mkdir()
    for name, content in (("answer", agent.ask(image, QUESTION)), ("report", agent.report(image))):
        result = Result(image, content, models_of(agent), QUESTION, SourceFrame(source, 0))
        append_trace(out / "trace.jsonl", content.steps)
        for form in FORMATS.values():
            if not form.identifies and not form.absent:
                write_export(out / f"{name}{form.suffix}", result)
    files = list(out.iterdir())
    assert len(files) >= 9
    assert planted.leaks(*(file.read_bytes() for file in files)) == []


def test_the_sr_on_request_names_the_patient(planted: Planted, agent: MedGLIPAgent, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    from grounding.types import MedicalImage

    source = tmp_path / "source.dcm"
    source.write_bytes(planted.data)
    image = MedicalImage.open(source)
    result = Result(image, agent.ask(image, QUESTION), models_of(agent), QUESTION, SourceFrame(source, 0))
    write_export(tmp_path / "out.dcm", result)
    assert planted.leaks((tmp_path / "out.dcm").read_bytes())


def test_command_line(
    planted: Planted,
    agent: MedGLIPAgent,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(MedGLIPAgent, "from_pretrained", staticmethod(lambda *_, **__: agent))
    source = tmp_path / "source.dcm"
    source.write_bytes(planted.data)
    trace = tmp_path / "trace.jsonl"
    assert cli.main(["ask", str(source), QUESTION, "--trace", str(trace)]) == 0
    assert cli.main(["ask", str(source), QUESTION, "--json"]) == 0
    assert cli.main(["report", str(source)]) == 0
    assert cli.main(["ask", str(source), QUESTION, "--frame", "9"]) == 2
    captured = capfd.readouterr()
    assert "left code 16" in captured.out
    assert planted.leaks(captured.out, captured.err, trace.read_bytes()) == []
