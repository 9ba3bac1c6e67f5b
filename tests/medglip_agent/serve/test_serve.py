"""`medglip serve`, seen by the official openai client and by raw HTTP."""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import jsonschema
import pytest

from benchmarks.coded_pictures import QUESTION as ASK
from benchmarks.coded_pictures import coded_picture as png
from benchmarks.coded_pictures import data_url
from benchmarks.coded_pictures import user_message as user
from grounding.probe import Limits
from medglip_agent.audit import AuditLog, verify
from medglip_agent.exports.grounded_json import schema
from medglip_agent.serve.application import Settings
from medglip_agent.serve.guard import names_for
from medglip_agent.serve.lane import LaneLimits
from medglip_agent.serve.replies import TextFlow

openai = pytest.importorskip("openai")
TOKEN = "a-token-of-this-test"
TEXT = {"role": "user", "content": ASK}
TWO_IMAGES = {"role": "user", "content": user(ASK, data_url(png(1)))["content"] * 2}


def client(address: str, token: str = "unused") -> Any:
    return openai.OpenAI(base_url=f"{address}/v1", api_key=token, max_retries=0)


def post(address: str, body: bytes | dict[str, Any], **headers: str) -> tuple[int, Any]:
    """Return status and JSON of a raw request."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    request = urllib.request.Request(f"{address}/v1/chat/completions", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.load(reply)
    except HTTPError as error:
        return error.code, json.load(error)


def body(code: int = 8, text: str = ASK, **more: Any) -> dict[str, Any]:
    return {"model": "medglip", "messages": [user(text, data_url(png(code)))], **more}


def test_the_openai_client_gets_text_and_grounding(start: Callable[[Settings], str], audit: AuditLog) -> None:
    talk = client(start(Settings(audit=audit)))
    reply = talk.chat.completions.create(**body(16, extra_body={"image_options": {"modality": "CR"}}))
    assert reply.choices[0].message.content == "left code 16 [R1]."
    assert reply.choices[0].finish_reason == "stop"
    grounding = reply.grounding
    jsonschema.validate(grounding, schema())
    assert grounding["regions"][0]["box_xyxy"] == [0, 0, 3, 3]
    assert grounding["image"]["modality"] == "CR" and grounding["answer"]["citations"] == [1]
    assert verify(audit.path).count == 1
    line = json.loads(audit.path.read_text())
    assert line["image_sha256"] == grounding["image"]["source_id"] and "normal" not in audit.path.read_text()


def test_a_stream_adds_up_to_the_same(start: Callable[[Settings], str]) -> None:
    talk = client(start(Settings()))
    chunks = list(talk.chat.completions.create(**body(16), stream=True))
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(texts) == "left code 16 [R1]." and len([text for text in texts if text]) >= 3
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].grounding["answer"]["text"] == "".join(texts)


def test_a_further_question_is_about_the_latest_image(start: Callable[[Settings], str], vlm: Any) -> None:
    talk = client(start(Settings()))
    turns = [
        {"role": "system", "content": "Ignore the picture."},
        user(ASK, data_url(png(1))),
        {"role": "assistant", "content": "left"},
        user("Is this one normal?", data_url(png(2))),
        {"role": "assistant", "content": None},
        {"role": "user", "content": "Is the heart enlarged?"},
    ]
    reply = talk.chat.completions.create(model="medglip", messages=turns)
    assert reply.choices[0].message.content.startswith("left code 2")
    assert vlm.asked == ["Is the heart enlarged?"]


def test_models_and_health(start: Callable[[Settings], str]) -> None:
    address = start(Settings(TOKEN))
    talk = client(address, TOKEN)
    assert [model.id for model in talk.models.list()] == ["medglip"]
    assert talk.models.retrieve("medglip").models == {"grounder": "coded-grounder", "vlm": "coded-vlm"}
    with urllib.request.urlopen(f"{address}/health") as reply:
        assert json.load(reply) == {"status": "ok", "requests": 0}


def test_errors_come_as_the_clients_own(start: Callable[[Settings], str]) -> None:
    address = start(Settings(TOKEN))
    with pytest.raises(openai.AuthenticationError):
        client(address, "wrong").models.list()
    with pytest.raises(openai.NotFoundError, match="medglip"):
        client(address, TOKEN).chat.completions.create(**{**body(), "model": "gpt-5"})
    with pytest.raises(openai.BadRequestError, match="nothing is fetched"):
        client(address, TOKEN).chat.completions.create(
            model="medglip", messages=[user(ASK, "http://127.0.0.1/x.png")]
        )
    with pytest.raises(openai.NotFoundError):
        client(address, TOKEN).embeddings.create(model="medglip", input="x")


@pytest.mark.parametrize(
    ("request_body", "status", "told"),
    [
        (b"", 400, "JSON"),
        (b"[]", 400, "JSON object"),
        (b"[" * 100_000, 400, "JSON"),
        (b'{"model": "medglip", "temperature": NaN}', 400, "JSON"),
        (b'{"model": "medglip", "user": "\\ud800"}', 400, "JSON"),
        (b"\xff\xfe{}", 400, "JSON"),
        ({"model": ["medglip"]}, 404, "model must be"),
        ({"model": "medglip"}, 400, "messages must be a list"),
        ({"model": "medglip", "messages": [{"role": "user", "content": "hi"}]}, 400, "no image"),
        ({"model": "medglip", "messages": [{"role": "tool", "content": "x"}]}, 400, "role among"),
        ({"model": "medglip", "messages": [user("", data_url(png(1)))]}, 400, "no text"),
        (body(text="x" * 2001), 400, "up to 2000 characters"),
        ({"model": "medglip", "messages": [user(ASK, data_url(png(1)))] * 501}, 400, "up to 500 entries"),
        (
            {
                "model": "medglip",
                "messages": [user(ASK, data_url(png(1))), {"role": "system", "content": "x"}],
            },
            400,
            "last message must be the user's",
        ),
        ({"model": "medglip", "messages": [TWO_IMAGES]}, 400, "one image, got 2"),
        (
            {"model": "medglip", "messages": [{**user(ASK, data_url(png(1))), "role": "assistant"}, TEXT]},
            400,
            "no image in the conversation",
        ),
        (body(n=2), 400, "n must be 1"),
        (body(tools=[{"type": "function"}]), 400, "tools is not supported"),
        (body(image_options={"frame": 3}), 400, "no frame 3"),
        (body(image_options={"frame": True}), 400, "frame must be"),
        (body(image_options={"path": "/etc/passwd"}), 400, "image_options may hold"),
        (body(image_options={"window": [40, 0]}), 400, "window must be"),
        ({"model": "medglip", "messages": [user(ASK, "data:image/png;base64,%%%")]}, 400, "base64"),
        (
            {"model": "medglip", "messages": [user(ASK, data_url(b"GIF89a" + bytes(99)))]},
            400,
            "no known image",
        ),
        ({"model": "medglip", "messages": [user(ASK, data_url(png(1)[:60]))]}, 400, "damaged"),
        ({"model": "medglip", "messages": [user(ASK, "file:///etc/passwd")]}, 400, "nothing is fetched"),
    ],
)
def test_bad_requests_are_told(
    start: Callable[[Settings], str], request_body, status: int, told: str
) -> None:
    address = start(Settings())
    for stream in (False, True) if isinstance(request_body, dict) else (False,):
        sent = {**request_body, "stream": stream} if stream else request_body
        found, reply = post(address, sent)
        assert found == status and told in reply["error"]["message"]
        assert set(reply["error"]) == {"message", "type", "param", "code"}


def test_sizes_are_capped(start: Callable[[Settings], str]) -> None:
    address = start(Settings(limits=Limits(max_bytes=2000, max_pixels=1300)))
    assert post(address, body())[0] == 200
    many = {"model": "medglip", "messages": [user(ASK, data_url(png(1, (40, 40))))]}
    assert "at most 1300" in post(address, many)[1]["error"]["message"]
    assert post(address, b" " * (5 << 20))[0] == 413


def test_only_json_under_this_machines_name(start: Callable[[Settings], str]) -> None:
    address = start(Settings(names=names_for("127.0.0.1", None)))
    assert post(address, body())[0] == 200
    assert post(address, body(), Content_Type="text/plain")[0] == 415
    assert post(address, body(), Host="evil.example:80")[0] == 403


@pytest.mark.parametrize(
    ("host", "token", "told"),
    [
        ("0.0.0.0", None, "expected a token"),
        ("::", None, "expected a token"),
        ("::1", "short", "at least 16"),
    ],
)
def test_no_open_door_to_the_network(host: str, token: str | None, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        names_for(host, token)
    assert names_for(host, TOKEN) is None or host == "::1"


def test_a_full_queue_refuses_and_recovers(start: Callable[[Settings], str], vlm: Any) -> None:
    address = start(Settings(lane=LaneLimits(waiting=1, wait_s=0.2)))
    vlm.gate.clear()
    replies: list[tuple[int, Any]] = []
    first = threading.Thread(target=lambda: replies.append(post(address, body())))
    first.start()
    until(lambda: vlm.asked)
    second = threading.Thread(target=lambda: replies.append(post(address, body())))
    second.start()
    until(lambda: in_flight(address) == 2)
    status, reply = post(address, body())
    assert status == 429 and reply["error"]["code"] == "queue_full"
    second.join()
    assert replies[0][0] == 503 and "busy" in replies[0][1]["error"]["code"]
    vlm.gate.set()
    first.join()
    assert replies[1][0] == 200 and post(address, body())[0] == 200


def test_a_slow_answer_is_stopped(start: Callable[[Settings], str], vlm: Any) -> None:
    address = start(Settings(lane=LaneLimits(run_s=0.3)))
    vlm.gate.clear()
    assert post(address, body())[0] == 504
    vlm.gate.set()
    assert post(address, body())[0] == 200


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_frees_the_queue_while_the_models_work(
    start: Callable[[Settings], str], vlm: Any, stream: bool
) -> None:
    """The second leaves while it waits for its turn, the first while the models work on it."""
    address = start(Settings())
    vlm.gate.clear()
    first = sent(address, body(1, stream=stream))
    until(lambda: vlm.asked)
    second = sent(address, body(2, stream=stream))
    until(lambda: in_flight(address) == 2)
    second.close()
    until(lambda: in_flight(address) == 1)
    first.close()
    until(lambda: in_flight(address) == 0)
    vlm.gate.set()
    assert post(address, body(9))[1]["choices"][0]["message"]["content"].startswith("left code 9")
    assert len(vlm.asked) == 2  # the second was never worked on


def test_faults_of_ours_tell_no_detail(
    start: Callable[[Settings], str], caplog: pytest.LogCaptureFixture
) -> None:
    address = start(Settings())
    with caplog.at_level(logging.INFO):
        status, reply = post(address, body(text="Does it fail?"))
        chunks = raw_stream(address, body(text="Does it fail?", stream=True))
    assert status == 500 and reply["error"]["code"] == "internal_error"
    assert '"internal_error"' in chunks and chunks.endswith("data: [DONE]\n\n")
    told = [record.getMessage() for record in caplog.records if record.name == "medglip.serve"]
    assert any("RuntimeError at" in line for line in told)
    assert not [
        text for text in (*told, json.dumps(reply), chunks) if "SECRET" in text or "Traceback" in text
    ]


def test_images_leave_nothing_on_the_disk(
    start: Callable[[Settings], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    address = start(Settings())
    assert post(address, body())[0] == 200 and post(address, body(image_options={"frame": 7}))[0] == 400
    assert not list(tmp_path.iterdir())


def test_text_flows_only_where_it_is_settled() -> None:
    flow = TextFlow()
    pieces = [flow.piece(text) for text in (" Yes", ".", " Left", " lung.")]
    assert pieces == ["Yes", "", ". Left", " lung"]
    assert flow.end("Yes. Left lung [R1].") == " [R1]."
    assert flow.end("I cannot answer this.") == "\n\nI cannot answer this."


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def in_flight(address: str) -> int:
    with urllib.request.urlopen(f"{address}/health") as reply:
        return int(json.load(reply)["requests"])


def sent(address: str, request_body: dict[str, Any]) -> HTTPConnection:
    """Send a request and read nothing; close the connection to leave."""
    connection = HTTPConnection(address.removeprefix("http://"))
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(request_body).encode(), headers)
    return connection


def raw_stream(address: str, request_body: dict[str, Any]) -> str:
    data = json.dumps(request_body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/v1/chat/completions", data, headers)
    with urllib.request.urlopen(request, timeout=30) as reply:
        return reply.read().decode()
