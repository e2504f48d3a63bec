"""The same promises over TLS: certificates are checked, and time is bounded."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskpilot.domain.chat import ChatRequest
from taskpilot.domain.errors import ModelRefused, ModelUnavailable
from taskpilot.llm.openai_chat import OpenAIModel
from tests.errors import saying
from tests.servers import openai_answers as wire
from tests.servers.debian import require
from tests.servers.openai_server import OpenAIServer
from tests.stopwatch import own_seconds


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    files = folder / "certificate.pem", folder / "key.pem"
    command = [require("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *names, "-out", str(files[0]), "-keyout", str(files[1])], check=True, capture_output=True)
    return files


@pytest.fixture
def secure(certificate: tuple[Path, Path]) -> Iterator[OpenAIServer]:
    with OpenAIServer(certificate=certificate) as server:
        yield server


def test_a_certificate_of_an_unknown_authority_is_refused_at_once(
    secure: OpenAIServer, model_at: Callable[..., OpenAIModel], question: ChatRequest
) -> None:
    with pytest.raises(ModelRefused, check=saying("SSL_CERT_FILE")):
        model_at(secure.url).chat(question, seconds_left=30)
    assert secure.requests == ()


def test_a_deployment_authority_is_trusted_by_the_usual_variable_and_a_drip_still_ends(
    secure: OpenAIServer,
    model_at: Callable[..., OpenAIModel],
    question: ChatRequest,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    model = model_at(secure.url, attempt_seconds=0.5)
    assert model.chat(question, seconds_left=30).content == "an answer of the test server"
    secure.handler = lambda _: wire.drip(0.02)
    start = own_seconds()
    with pytest.raises(ModelUnavailable):
        model.chat(question, seconds_left=0.9)
    assert own_seconds() - start < 3
