"""`llamaduo-gui serve` over real HTTP, with the openai SDK as its client and plan B behind it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.base_model import resolve_base_model
from llamaduo_gui.core.config import InferenceConfig, PipelineConfig, ServiceConfig
from llamaduo_gui.core.types import Stage
from llamaduo_gui.store.project import Project
from tests.chat_models import make_endless_gguf
from tests.fakes.answers import Answers
from tests.fakes.openai_server import FakeOpenAI, Settings
from tests.gguf_files import write_test_gguf

pytest.importorskip("starlette", reason="the [server] extra is not installed")
pytest.importorskip("uvicorn", reason="the [server] extra is not installed")

WAIT_S = 60.0
KEY = "serve-key-4711"
SERVICE_KEY = "service-key-0815"
PROMPT = "How much is 2 + 2?"
ANSWER = "It is four, says the service."


@dataclass
class Served:
    """A running endpoint and what it said so far."""

    process: subprocess.Popen[str]
    lines: list[str]
    url: str

    def client(self, key: str = "none") -> Any:
        import openai

        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=WAIT_S)

    def ask(self, text: str = PROMPT, **settings: Any) -> Any:
        with self.client() as client:
            return client.chat.completions.with_raw_response.create(
                model="gpt-4o",
                messages=[{"role": "user", "content": text}],
                **{"max_tokens": 12, "temperature": 0, **settings},
            )

    def by(self, text: str = PROMPT, **settings: Any) -> str:
        """Who answered."""
        return str(self.ask(text, **settings).headers["x-llamaduo-answered-by"])

    def said(self, text: str) -> bool:
        return any(text in line for line in self.lines)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    return write_test_gguf(resolve_base_model("builtin:tiny"), folder / "tiny-F16.gguf")


@pytest.fixture(scope="session")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_endless_gguf(tmp_path_factory.mktemp("chat"))


@pytest.fixture
def service() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(Settings(key=SERVICE_KEY), Answers(known={PROMPT: ANSWER})) as server:
        yield server


@contextmanager
def serving(*arguments: str | Path, **variables: str) -> Iterator[Served]:
    process = subprocess.Popen(
        [sys.executable, "-m", "llamaduo_gui", "serve", "--port", "0", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, **variables},
    )
    lines: list[str] = []
    is_serving = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if "Ctrl+C ends" in line:
                is_serving.set()
        is_serving.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert is_serving.wait(WAIT_S)
        found = re.search(r"http://127\.0\.0\.1:\d+/v1", "".join(lines))
        assert found is not None, lines
        yield Served(process, lines, found.group())
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(WAIT_S)
        finally:
            process.kill()
            reader.join()
            assert process.stderr is not None
            process.stderr.close()


def make_project(folder: Path, gguf: Path, url: str, **service: Any) -> Path:
    teacher = ServiceConfig(
        provider="openai_compatible", model="fake-model", base_url=url, **service
    )
    config = PipelineConfig(
        task="demo", teacher=teacher, inference=InferenceConfig(temperature=0.0)
    )
    with Project.create(folder, config) as project:
        target = project.paths.artifacts / "student-F16.gguf"
        target.write_bytes(gguf.read_bytes())
        run = project.runs.find_or_create("export:F16:r0", Stage.EXPORT)
        project.artifacts.add(run.id, "gguf", target, round_number=0, meta={"quant": "F16"})
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(is_met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_met():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="session")
def local(tiny: Path) -> Iterator[Served]:
    with serving("--gguf", tiny) as served:
        yield served


def test_the_model_is_listed_and_answers_in_one_piece(local: Served) -> None:
    with local.client() as client:
        assert [model.id for model in client.models.list()] == ["tiny-F16"]
    raw = local.ask()
    reply = raw.parse()
    assert raw.headers["x-llamaduo-answered-by"] == "local"
    assert reply.model == "tiny-F16"
    assert reply.choices[0].message.content
    assert reply.usage.prompt_tokens > 0
    assert 0 < reply.usage.completion_tokens <= 12


def test_a_stream_is_the_same_answer_in_pieces(local: Served) -> None:
    whole = local.ask().parse()
    with local.client() as client:
        chunks = list(
            client.chat.completions.create(
                model="any",
                messages=[{"role": "user", "content": PROMPT}],
                max_tokens=12,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == whole.choices[0].message.content
    assert len([text for text in texts if text]) > 1
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices][-1]
    assert reasons == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"stop": ["x"]}, "stop"),
        ({"n": 2}, "n cannot"),
        ({"top_p": 2}, "top_p"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_what_is_not_served_is_refused_by_name(
    local: Served, settings: dict[str, Any], word: str
) -> None:
    import openai

    with pytest.raises(openai.BadRequestError, match=word):
        local.ask(**settings)


def test_a_conversation_that_does_not_fit_is_the_clients_mistake(local: Served) -> None:
    import openai

    with pytest.raises(openai.BadRequestError, match="tokens"):
        local.ask("word " * 20_000)


def test_pages_in_a_browser_and_other_host_names_are_refused(local: Served) -> None:
    import httpx2

    body = json.dumps({"messages": [{"role": "user", "content": "x"}], "max_tokens": 1})
    url = f"{local.url}/chat/completions"
    simple = httpx2.post(url, content=body, headers={"content-type": "text/plain"})
    assert simple.status_code == 415
    headers = {"content-type": "application/json", "host": "evil.example"}
    assert httpx2.post(url, content=body, headers=headers).status_code == 400


def test_a_wrong_key_is_refused_and_never_written(tiny: Path) -> None:
    import openai

    with serving("--gguf", tiny, LLAMADUO_SERVER_KEY=KEY) as served:
        assert served.said("an API key is asked for")
        with served.client("wrong-key-99") as client, pytest.raises(openai.AuthenticationError):
            client.models.list()
        with served.client(KEY) as client:
            assert len(client.models.list().data) == 1
    assert not served.said(KEY)
    assert not served.said("wrong-key-99")
    assert served.process.returncode == 0


def test_ctrl_c_ends_an_answer_under_way(endless: Path) -> None:
    with serving("--gguf", endless) as served, served.client() as client:
        stream = client.chat.completions.create(
            model="any",
            messages=[{"role": "user", "content": "Go on"}],
            temperature=0,
            stream=True,
        )
        next(iter(stream))
        started = time.monotonic()
        served.process.send_signal(signal.SIGINT)
        served.process.wait(WAIT_S)
        assert time.monotonic() - started < 20
        stream.close()
    assert served.process.returncode == 0


def test_a_client_that_leaves_frees_the_model_for_the_next(endless: Path) -> None:
    with serving("--gguf", endless) as served:
        with served.client() as client:
            stream = client.chat.completions.create(
                model="any",
                messages=[{"role": "user", "content": "Go on"}],
                temperature=0,
                stream=True,
            )
            next(iter(stream))
            stream.close()
        # Answers have no limit but the context of 8,192 tokens: it would take minutes.
        started = time.monotonic()
        assert served.ask("Next").parse().usage.completion_tokens == 12
        assert time.monotonic() - started < 20


def test_a_port_in_use_is_told_in_one_sentence(tiny: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "llamaduo_gui", "serve", "--gguf", tiny, "--port", str(port)],
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith(f"Port {port} of 127.0.0.1 cannot be used")
    assert len(done.stderr.splitlines()) == 1


def test_service_first_answers_with_the_service(
    tmp_path: Path, tiny: Path, service: FakeOpenAI
) -> None:
    project = make_project(tmp_path / "p", tiny, service.url)
    variables = {"OPENAI_COMPATIBLE_API_KEY": SERVICE_KEY}
    with serving(project, "--plan", "service_first", **variables) as served:
        reply = served.ask()
        assert reply.headers["x-llamaduo-answered-by"] == "service"
        assert reply.parse().choices[0].message.content == ANSWER
        assert reply.parse().model == "openai_compatible:fake-model"
        with served.client() as client:
            pieces = client.chat.completions.create(
                model="any", messages=[{"role": "user", "content": PROMPT}], stream=True
            )
            texts = [chunk.choices[0].delta.content or "" for chunk in pieces]
        assert "".join(texts) == ANSWER
        assert len(texts) > 3
    assert served.said("2 answered by openai_compatible:fake-model")
    assert not served.said(SERVICE_KEY)


def test_a_dead_service_is_replaced_by_the_local_model(tmp_path: Path, tiny: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    project = make_project(tmp_path / "p", tiny, url, timeout_s=5)
    with serving(project, "--plan", "service_first") as served:
        assert served.by() == "local"
        assert served.by(stream=True) == "local"
    assert served.said("student-F16 answers in place of openai_compatible:fake-model")


@pytest.mark.parametrize("fault", ["server_error", "rate_limit", "no_credit", "hang", "drop"])
def test_each_failure_of_the_service_is_caught_and_it_comes_back(
    tmp_path: Path, tiny: Path, service: FakeOpenAI, fault: Any
) -> None:
    service.settings.script = [fault]
    service.settings.retry_after_s = 0.2
    project = make_project(tmp_path / "p", tiny, service.url, timeout_s=1)
    variables = {"OPENAI_COMPATIBLE_API_KEY": SERVICE_KEY}
    with serving(project, "--plan", "service_first", **variables) as served:
        assert served.by() == "local"
        asked = len(service.log)
        if fault == "rate_limit":
            time.sleep(0.3)
            assert served.by() == "service"
        else:
            assert served.by() == "local", "it rests after a failure"
            assert len(service.log) == asked


def test_a_service_that_breaks_off_in_mid_answer_is_told_as_an_error(
    tmp_path: Path, tiny: Path, service: FakeOpenAI
) -> None:
    import openai

    service.settings.script = ["truncated"]
    project = make_project(tmp_path / "p", tiny, service.url)
    variables = {"OPENAI_COMPATIBLE_API_KEY": SERVICE_KEY}
    with serving(project, "--plan", "service_first", **variables) as served:
        with served.client() as client, pytest.raises(openai.APIError) as caught:
            list(
                client.chat.completions.create(
                    model="any", messages=[{"role": "user", "content": PROMPT}], stream=True
                )
            )
        assert "fake-model" in str(caught.value)
        assert served.process.poll() is None


def test_what_the_service_refuses_stays_refused(
    tmp_path: Path, tiny: Path, service: FakeOpenAI
) -> None:
    import openai

    service.settings.script = ["content_filter"]
    project = make_project(tmp_path / "p", tiny, service.url)
    variables = {"OPENAI_COMPATIBLE_API_KEY": SERVICE_KEY}
    with serving(project, "--plan", "service_first", **variables) as served:
        with pytest.raises(openai.BadRequestError):
            served.ask()
        assert served.by() == "service"


def test_local_first_asks_the_service_only_where_the_local_model_cannot(
    tmp_path: Path, tiny: Path, service: FakeOpenAI
) -> None:
    project = make_project(tmp_path / "p", tiny, service.url)
    variables = {"OPENAI_COMPATIBLE_API_KEY": SERVICE_KEY}
    with serving(project, "--plan", "local_first", **variables) as served:
        assert served.by() == "local"
        assert service.log == []
        assert served.by("word " * 20_000) == "service"
        assert served.by("word " * 20_000, stream=True) == "service"


@pytest.mark.parametrize("is_logged", [False, True])
def test_the_shadow_asks_both_and_writes_only_if_told_to(
    tmp_path: Path, tiny: Path, service: FakeOpenAI, is_logged: bool
) -> None:
    project = make_project(tmp_path / "p", tiny, service.url)
    log = tmp_path / "shadow.jsonl"
    arguments = ("--log", log) if is_logged else ()
    variables = {"OPENAI_COMPATIBLE_API_KEY": SERVICE_KEY}
    with serving(project, "--plan", "shadow", *arguments, **variables) as served:
        assert served.by() == "service"
        if is_logged:
            wait_for(lambda: log.read_text(encoding="utf-8").endswith("\n"))
        else:
            time.sleep(2)
    assert served.said("1 compared, 0 of them equal")
    written = "".join(p.read_text() for p in tmp_path.glob("*.jsonl"))
    if not is_logged:
        assert written == ""
        return
    line = json.loads(written)
    assert line["service"]["text"] == ANSWER
    assert line["local"]["model"] == "student-F16"
    assert line["local"]["text"] != ANSWER
    assert line["messages"] == [{"role": "user", "content": PROMPT}]
    assert not line["is_equal"]
    assert SERVICE_KEY not in written
    if os.name == "posix":
        assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_arguments_that_do_not_fit_are_told(tmp_path: Path, tiny: Path) -> None:
    from llamaduo_gui.cli import main

    assert main(["serve"]) == 2
    assert main(["serve", "--gguf", str(tiny), "--plan", "shadow"]) == 2
    assert main(["serve", "--gguf", str(tiny), "--log", "x"]) == 2
    assert main(["serve", "--gguf", str(tmp_path / "none.gguf"), "--port", "0"]) == 2
